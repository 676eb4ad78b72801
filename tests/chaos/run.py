"""One run: a fleet, callers and havoc; then everything is restored, and the checker reads the result."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import redis

from tests.chaos.checker import Violation, check
from tests.chaos.clients import Crowd, Request, request
from tests.chaos.evidence import MACHINE, Evidence, FaultRecord, Store, gather
from tests.chaos.fleet import Fleet, Size
from tests.chaos.havoc import FREEZE_S, Action, schedule
from tests.chaos.network import CALLERS, ON_THE_WAY, Disturbance, Network, links
from tests.chaos.network import schedule as network_schedule
from tests.chaos.waste import Waste, measure
from tests.doubles.replica import POISON

_LOOK_S = 0.25
_PULSE_S = 0.05
_STALL_S = 0.4
_UNDISTURBED_S = 60.0
"""Limit of the first session, alone and undisturbed."""
_CALM_S = 40.0
"""How long the restored fleet may take until every session has finished and all queues are empty."""
_GOOD_EXIT_CODES = {0, -15, None}


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        open_sessions: live sessions at a time.
        havoc_s: no action starts after this time.
        give_up_after_s: the run ends after this time, and what is missing is a violation.
    """

    sessions: int
    seed: int
    size: Size = field(default_factory=Size)
    open_sessions: int = 80
    every_s: float = 3.0
    havoc_s: float = 3600.0
    give_up_after_s: float = 900.0
    whole_plan: bool = False
    """Carry out the whole plan, even if the sessions finish earlier; for plans that must be the same on any machine."""
    poisoned: int = 0
    """How many of the sessions kill the replicas that drive them."""
    may_wait_s: float = 2.0
    """How long after its session has finished, with a sound network, a caller may wait for the answer."""
    network: bool = False
    """Disturb the connections between processes, in place of the processes."""


@dataclass
class Report:
    """Result of a run."""

    options: Options
    evidence: Evidence
    violations: list[Violation]
    waste: Waste
    seconds: float
    answers: Counter[int]
    """To the callers' POST requests, by status; 0 is no answer."""
    actions: Counter[str]
    crashes: list[str]
    """Processes that ended without being told to, or with a bad exit code."""
    timeline: list[str]
    met: Counter[str]
    """Connections that disturbances of the network met, by name."""
    poisoned: int
    """How often replicas died of a session that kills its driver."""


Act = TypeVar("Act")


class Havoc(Generic[Act]):
    """Carries out a plan, and undoes every action at the end."""

    def __init__(self, fleet: Fleet, plan: Iterator[tuple[float, Act]], began: float) -> None:
        self._fleet = fleet
        self._plan = plan
        self._began = began
        self._under_way: set[asyncio.Task[None]] = set()
        self.actions: Counter[str] = Counter()
        self.timeline: list[str] = []
        self.bad_ends: list[str] = []

    async def run(self) -> None:
        """Run until the plan ends or this is cancelled; `heal` undoes the actions under way."""
        for at, action in self._plan:
            await asyncio.sleep(max(0.0, self._began + at - time.monotonic()))
            task = asyncio.create_task(self._act(action))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _act(self, action: Act) -> None:
        raise NotImplementedError

    async def supervise(self) -> None:
        """Restart processes that ended by themselves."""
        while True:
            for member in self._fleet.members.values():
                await asyncio.to_thread(member.supervise)
            await asyncio.sleep(_LOOK_S)

    async def end(self, running: asyncio.Task[None], *, whole: bool) -> None:
        """Start no more actions; raises the errors of those that were started."""
        if not whole:
            running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()

    async def heal(self) -> None:
        """Wait until every action is undone."""
        while self._under_way:
            done, _ = await asyncio.wait(self._under_way)
            for task in done:
                task.result()
        await asyncio.to_thread(self._fleet.wait_ready)


class NetworkHavoc(Havoc[Disturbance]):
    """Disturbs connections."""

    def __init__(self, fleet: Fleet, network: Network, plan: Iterator[tuple[float, Disturbance]], began: float) -> None:
        super().__init__(fleet, plan, began)
        self._network = network
        self.met: Counter[str] = Counter()
        """Connections that each disturbance met."""
        self.faults: list[FaultRecord] = []
        """Of those on the way to callers."""

    async def _act(self, action: Disturbance) -> None:
        self.actions[action.name] += 1
        began = time.time()
        self._network.begin(action)
        try:
            await asyncio.sleep(action.lasts_s)
        finally:
            met = self._network.met(action)
            self._network.end(action)
        self.met[action.name] += met
        where = ", ".join(map(str, action.links))
        self.timeline.append(f"{began:.3f} {action.name} on {where} for {action.lasts_s} s: {action.fault}, met {met}")
        if action.links[0].kind in ON_THE_WAY:
            self.faults += [FaultRecord(began, time.time(), link.source, link.target) for link in action.links]


class ProcessHavoc(Havoc[Action]):
    """Kills, pauses and restarts processes."""

    async def _act(self, action: Action) -> None:
        member = self._fleet.members[action.member]
        self.actions[f"{action.verb} {member.kind}"] += 1
        self.timeline.append(f"{time.time():.3f} {action.verb} {action.member} for {action.away_s} s")
        if action.verb == "pause":
            member.pause()
            await asyncio.sleep(action.away_s)
            member.resume()
        elif action.verb == "skew":
            self._fleet.set_clock(member, action.ahead_s)
            await asyncio.sleep(action.away_s)
            self._fleet.set_clock(member, 0)
        elif action.verb == "zombie":
            member.pause()
            await asyncio.sleep(action.away_s)
            self._fleet.redis.pause()
            member.resume()
            await asyncio.sleep(FREEZE_S)
            self._fleet.redis.resume()
        elif action.verb == "kill":
            await asyncio.to_thread(member.kill)
            await asyncio.sleep(action.away_s)
            await asyncio.to_thread(member.start)
        else:
            code = await asyncio.to_thread(member.stop)
            if code not in _GOOD_EXIT_CODES:
                self.bad_ends.append(f"{action.member} got SIGTERM, and exited with {code}")
            await asyncio.to_thread(member.start)


async def run(folder: Path, options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """Run everything from the first process to the report; no process is left running."""
    fleet = Fleet(folder, options.size, with_front=options.network, clocks=not options.network)
    kinds = {name: member.kind for name, member in fleet.members.items()}
    ports = {name: member.port for name, member in fleet.members.items()}
    async with Network(ports, links(kinds) if options.network else ()) as network:
        fleet.routes = network.routes
        try:
            say("starting the fleet")
            await asyncio.to_thread(fleet.start)
            return await _run(fleet, network, options, say)
        finally:
            await asyncio.to_thread(fleet.end)


async def _run(fleet: Fleet, network: Network, options: Options, say: Callable[[str], None]) -> Report:
    kinds = {name: member.kind for name, member in fleet.members.items()}
    names = [thinker.name for thinker in fleet.thinkers]
    first, *others = (request(options.seed, number) for number in range(1, options.sessions + 1))
    called = [*fleet.orchestrators, fleet.front] if options.network else fleet.orchestrators
    doors = {fleet.url(CALLERS, member): member.name for member in called}
    front = fleet.url(CALLERS, fleet.front)
    havoc: NetworkHavoc | ProcessHavoc
    async with Crowd(lambda: list(doors), names, options.seed, front, doors) as crowd:
        await _undisturbed(crowd, first)
        began = time.monotonic()
        if options.network:
            # Every other caller waits at the images endpoint.
            others = [replace(asked, waits=asked.number % 2 == 0, deadline_s=None) for asked in others]
            plan = network_schedule(options.seed, links(kinds), options.every_s, options.havoc_s)
            havoc = NetworkHavoc(fleet, network, plan, began)
        else:
            havoc = ProcessHavoc(fleet, schedule(options.seed, kinds, options.every_s, options.havoc_s), began)
        others = poison(others, options.poisoned)
        stalls: list[FaultRecord] = []
        watch = FinishWatch(fleet.redis.port, crowd)
        acting = asyncio.create_task(havoc.run())
        background = [
            acting,
            asyncio.create_task(havoc.supervise()),
            asyncio.create_task(watch.run()),
            asyncio.create_task(pulse(stalls)),
            asyncio.create_task(_report_progress(crowd, havoc, options, began, say)),
        ]
        try:
            await live(crowd, others, options)
            seconds = time.monotonic() - began
            await havoc.end(acting, whole=options.whole_plan)
            say(f"all callers are done after {seconds:.0f} s; healing")
            await havoc.heal()
            await calm(fleet)
            views = await views_of(crowd)
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
    evidence = gather(fleet.redis.port, fleet.blobs, crowd.told, views)
    evidence.finished_at = watch.finished_at
    if isinstance(havoc, NetworkHavoc):
        evidence.faults, evidence.may_wait_s = [*havoc.faults, *stalls], options.may_wait_s
    violations, waste = check(evidence), measure(evidence, fleet.journals)
    if waste.unknown:
        violations.append(Violation("intent first", "-", f"{waste.unknown:.2f} s were edited without an edit_started"))
    crashes = [text for member in fleet.members.values() for text in member.crashes] + havoc.bad_ends
    met = havoc.met if isinstance(havoc, NetworkHavoc) else Counter[str]()
    deaths = sum(member.poisoned for member in fleet.members.values())
    return Report(
        options, evidence, violations, waste, seconds, crowd.answers, havoc.actions, crashes, havoc.timeline, met, deaths
    )


def poison(requests: list[Request], count: int) -> list[Request]:
    """Make some of the requests, at equal distances, ones that kill their drivers."""
    chosen = {len(requests) * place // (count + 1) for place in range(1, count + 1)}
    return [_deadly(asked) if place in chosen else asked for place, asked in enumerate(requests)]


def _deadly(asked: Request) -> Request:
    return replace(asked, prompt=POISON, review=False, deadline_s=None, cancel_after=None, waits=False)


async def _undisturbed(crowd: Crowd, asked: Request) -> None:
    """Run the first session alone and undisturbed, to fail early if the fleet cannot serve it."""
    try:
        async with asyncio.timeout(_UNDISTURBED_S):
            await crowd.live(replace(asked, review=False, deadline_s=None, cancel_after=None))
    except TimeoutError:
        raise AssertionError(f"one session, alone, does not end within {_UNDISTURBED_S} s: {dict(crowd.answers)}") from None


async def live(crowd: Crowd, requests: list[Request], options: Options) -> None:
    """Run all requests, `open_sessions` at a time; the checker reports those that do not end in time."""
    slots = asyncio.Semaphore(options.open_sessions)

    async def one(asked: Request) -> None:
        async with slots:
            await crowd.live(asked)

    tasks = [asyncio.create_task(one(asked)) for asked in requests]
    done, late = await asyncio.wait(tasks, timeout=options.give_up_after_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
        sys.stderr.write(f"{len(late)} callers did not finish within {options.give_up_after_s} s\n")
    for task in done:
        task.result()


async def pulse(stalls: list[FaultRecord]) -> None:
    """Record the times at which this process could not run, on a busy machine, and no proxy passed anything on."""
    while True:
        began = time.time()
        await asyncio.sleep(_PULSE_S)
        if time.time() - began > _STALL_S:
            stalls.append(FaultRecord(began, time.time(), MACHINE, ""))


class FinishWatch:
    """Sees in Redis itself when sessions finish."""

    def __init__(self, port: int, crowd: Crowd) -> None:
        self._port = port
        self._crowd = crowd
        self.finished_at: dict[str, float] = {}

    async def run(self) -> None:
        """Look again and again; Redis may be away."""
        before = time.time()
        while True:
            await asyncio.sleep(_LOOK_S)
            ids = {session_id for told in self._crowd.told for session_id in told.ids} - self.finished_at.keys()
            now = time.time()
            with contextlib.suppress(redis.RedisError):
                unfinished = await asyncio.to_thread(self._unfinished, ids)
                self.finished_at |= dict.fromkeys(ids - unfinished, before)
                before = now

    def _unfinished(self, ids: set[str]) -> set[str]:
        store = Store(self._port)
        try:
            return set(store.unfinished(ids))
        finally:
            store.close()


async def calm(fleet: Fleet) -> None:
    """Wait until every session has finished and the queues are empty; the checker reports failures."""
    ends = time.monotonic() + _CALM_S
    store = Store(fleet.redis.port)
    try:
        while time.monotonic() < ends and (store.unfinished() or store.leftovers()):
            await asyncio.sleep(_LOOK_S)
    finally:
        store.close()


async def views_of(crowd: Crowd) -> dict[str, dict[str, Any]]:
    """The API's state of every session that a caller got."""
    names = sorted({session_id for told in crowd.told for session_id in told.ids})
    slots = asyncio.Semaphore(8)

    async def one(name: str) -> dict[str, Any] | None:
        async with slots:
            return await crowd.view(name)

    found = await asyncio.gather(*(one(name) for name in names))
    return {name: view for name, view in zip(names, found, strict=True) if view is not None}


async def _report_progress(
    crowd: Crowd, havoc: NetworkHavoc | ProcessHavoc, options: Options, began: float, say: Callable[[str], None]
) -> None:
    while True:
        await asyncio.sleep(15)
        done, actions = crowd.finished, sum(havoc.actions.values())
        say(f"{time.monotonic() - began:4.0f} s: {done} of {options.sessions} sessions, {actions} actions")
