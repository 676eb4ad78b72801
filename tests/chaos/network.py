"""Network faults: a proxy on every connection between two processes, and the plan of what happens to which of them, and when.

    callers → front → orchestrator-N → redis-1
    callers → orchestrator-N           haproxy-1 → editor-N
                                       thinker-N

Two kinds of faults take turns. Random ones disturb any one link in any way. The `MOMENTS` are chosen: each waits for a certain
step of a session (a proxy finds it by what was sent), or disturbs several links together, and stands for a failure that once
hurt.

Every fault ends. Connections that were lost silently (``half-open``) stay so, as with a pulled cable, and the product must find
that out; only those of callers are reset at the end of the fault, because nobody but their own timeout could tell them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

from tests.chaos.havoc import REDIS, Kind
from tests.doubles.tcp_proxy import Fault, TcpProxy

CALLERS: Final = "callers"
FRONT: Final = "front-1"
LinkKind = Literal["callers", "front", "redis", "pool", "thinker", "editor"]
WEIGHTS: Final[Mapping[LinkKind, float]] = {"callers": 4, "front": 3, "redis": 4, "pool": 3, "thinker": 3, "editor": 3}
OF_CALLERS: Final[frozenset[LinkKind]] = frozenset({"callers", "front"})
ON_THE_WAY: Final[frozenset[LinkKind]] = OF_CALLERS | {"redis"}
"""Kinds of links by which a caller is told that its session has finished."""
SETTLE_S: Final = 1.0
"""How long a link is spared after a fault."""
_SHARE_RANDOM: Final = 0.35
_PASS: Final = Fault()


@dataclass(frozen=True)
class Link:
    """The connections that `source` opens to `target`."""

    source: str
    target: str
    kind: LinkKind

    def __str__(self) -> str:
        return f"{self.source}→{self.target}"


@dataclass(frozen=True)
class Disturbance:
    """A fault on some links, for a while."""

    name: str
    links: tuple[Link, ...]
    fault: Fault
    lasts_s: float


@dataclass(frozen=True)
class Moment:
    """A chosen fault; `everywhere` is on all links of the kind at the same time, in place of one."""

    name: str
    kind: LinkKind
    fault: Fault
    lasts_s: float
    everywhere: bool = False


_CREATE: Final = "POST /v1/sessions"
_IMAGES: Final = "POST /v1/images/edits"
_EVENTS: Final = "/events HTTP/1.1"
_CRITIQUE: Final = "POST /v1/chat/completions"
_SUBSCRIBE: Final = "SUBSCRIBE"

MOMENTS: Final = (
    Moment("the answer to a new session is lost", "callers", Fault("cut", bytes=10, only=_CREATE, times=3), 2.0),
    Moment("a source's upload stalls", "callers", Fault("stall", direction="up", only=_IMAGES), 1.5),
    Moment("a finished picture is cut mid-body", "front", Fault("cut", bytes=3_000, only=_IMAGES, times=3), 3.0),
    Moment("waiting callers are reset", "callers", Fault("reset", only=_IMAGES), 0.2),
    Moment("waiting callers are half-open", "front", Fault("half-open", only=_IMAGES), 2.0),
    Moment("an event is cut in two", "callers", Fault("cut", bytes=700, only=_EVENTS, times=4), 3.0),
    Moment("events drip", "callers", Fault("drip", bytes=300, seconds=0.02, direction="down", only=_EVENTS), 2.0),
    Moment("all pooled connections to Redis are reset", "redis", Fault("reset"), 0.2, everywhere=True),
    Moment("the subscription is half-open", "redis", Fault("half-open", only=_SUBSCRIBE, scope="open"), 3.0),
    Moment("Redis is silent for longer than a lease", "redis", Fault("stall"), 3.5, everywhere=True),
    Moment("answers of Redis are lost: claims, appends", "redis", Fault("half-open", direction="down", scope="open"), 3.5),
    Moment("answers of Redis are cut mid-body", "redis", Fault("cut", bytes=1_000), 0.7),
    Moment("an editor never answers", "pool", Fault("half-open", only=_IMAGES, times=2), 3.0),
    Moment("an edited picture is cut mid-body", "pool", Fault("cut", bytes=2_000, only=_IMAGES, times=2), 3.0),
    Moment("a worker is reset in the middle of edits", "editor", Fault("reset", only=_IMAGES), 0.2),
    Moment("a thinker never answers", "thinker", Fault("half-open", only=_CRITIQUE, times=2), 3.0),
    Moment("a critique is cut mid-body", "thinker", Fault("cut", bytes=300, only=_CRITIQUE, times=2), 3.0),
)


def links(kinds: Mapping[str, Kind]) -> list[Link]:
    """Every pair of processes that talk to each other, in a fleet with a front, by the names and kinds of its members."""
    replicas, editors, thinkers = (
        sorted(name for name, kind in kinds.items() if kind == wanted) for wanted in ("orchestrator", "editor", "thinker")
    )
    found = [Link(CALLERS, FRONT, "callers")]
    for replica in replicas:
        found += [Link(CALLERS, replica, "callers"), Link(FRONT, replica, "front"), Link(replica, REDIS, "redis")]
        found += [Link(replica, "haproxy-1", "pool"), *(Link(replica, thinker, "thinker") for thinker in thinkers)]
    return found + [Link("haproxy-1", editor, "editor") for editor in editors]


def schedule(seed: int, among: Iterable[Link], every_s: float, lasts_s: float) -> Iterator[tuple[float, Disturbance]]:
    """Yield (seconds from the start, disturbance), about every `every_s` seconds; all moments come before one comes again."""
    rng = random.Random(seed)
    by_kind: dict[LinkKind, list[Link]] = {kind: [] for kind in WEIGHTS}
    for link in among:
        by_kind[link.kind].append(link)
    busy: dict[Link, float] = {}
    moments: list[Moment] = []
    at = 0.0
    while (at := at + every_s * rng.uniform(0.5, 1.5)) < lasts_s:
        if rng.random() < _SHARE_RANDOM:
            free = {kind: [link for link in of if busy.get(link, 0.0) <= at] for kind, of in by_kind.items()}
            # Callers and Redis have no other way than theirs; of the others one link works at any time.
            kinds = [kind for kind in WEIGHTS if len(free[kind]) > (kind not in ON_THE_WAY)]
            if not kinds:
                continue
            (kind,) = rng.choices(kinds, [WEIGHTS[name] for name in kinds])
            fault = _any_fault(rng)
            found = Disturbance(f"{fault.mode} {kind}", (rng.choice(free[kind]),), fault, round(rng.uniform(0.2, 2.5), 2))
        else:
            moments = moments or rng.sample(MOMENTS, len(MOMENTS))
            moment = next((one for one in moments if _chosen(one, by_kind, busy, at)), None)
            if moment is None:
                continue
            moments.remove(moment)
            chosen = _chosen(moment, by_kind, busy, at)
            found = Disturbance(
                moment.name, tuple(chosen if moment.everywhere else [rng.choice(chosen)]), moment.fault, moment.lasts_s
            )
        busy |= dict.fromkeys(found.links, at + found.lasts_s + SETTLE_S)
        yield at, found


def _chosen(moment: Moment, by_kind: Mapping[LinkKind, list[Link]], busy: Mapping[Link, float], at: float) -> list[Link]:
    """The links on which it can happen now."""
    of = by_kind[moment.kind]
    if moment.kind == "callers" and moment.fault.only == _IMAGES:
        of = [link for link in of if link.target == FRONT]
    free = [link for link in of if busy.get(link, 0.0) <= at]
    return free if free == of or not moment.everywhere else []


def _any_fault(rng: random.Random) -> Fault:
    directions: tuple[Literal["both", "up", "down"], ...] = ("both", "up", "down")
    direction = rng.choice(directions)
    fault = rng.choice(
        (
            Fault("delay", seconds=rng.uniform(0.05, 0.4)),
            Fault("drip", bytes=rng.randint(200, 2_000), seconds=0.02),
            Fault("stall"),
            Fault("half-open"),
            Fault("reset"),
            Fault("cut", bytes=rng.randint(1, 4_000)),
        )
    )
    return replace(fault, direction=direction) if fault.mode in {"delay", "drip", "stall"} else fault


class Network:
    """A proxy for each link of a fleet; none of its members may have been started.

    Args:
        ports: where the members listen, by name.
        among: the links.
    """

    def __init__(self, ports: Mapping[str, int], among: Iterable[Link]) -> None:
        self._proxies = {link: TcpProxy("127.0.0.1", ports[link.target]) for link in among}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for proxy in self._proxies.values():
            await self._stack.enter_async_context(proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def routes(self) -> dict[tuple[str, str], int]:
        """By (source, target): the port that the source must use."""
        return {(link.source, link.target): proxy.port for link, proxy in self._proxies.items()}

    def begin(self, disturbance: Disturbance) -> None:
        for link in disturbance.links:
            self._proxies[link].set(disturbance.fault)

    def met(self, disturbance: Disturbance) -> int:
        """How many connections it has met, while it lasts."""
        return sum(self._proxies[link].hit for link in disturbance.links)

    def end(self, disturbance: Disturbance) -> None:
        for link in disturbance.links:
            proxy = self._proxies[link]
            if link.kind in OF_CALLERS and disturbance.fault.mode == "half-open":
                proxy.set(Fault("reset", scope="open"))
            proxy.set(_PASS)
