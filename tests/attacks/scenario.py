"""A scenario: what one tenant does, and the bounds that hold for the services and for another tenant at the same time.

play(place, scenario)     the figures, with every bound that was passed
row(played)               of the table of docs/security.md
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.attacks.arena import ATTACKER, Arena, Cost, Edits, Outcome, attacked_by, timed_edits, watched

HEADER: Final = (
    "| row | attack | what was sent | answers | CPU | peak memory grew by | bytes left: Redis, blobs, /tmp | "
    "another's edit p50 / p95, quiet → attacked | bound |\n|---|---|---|---|---|---|---|---|---|\n"
)
LATENCY_FACTOR: Final = 2.0
LATENCY_S: Final = 0.5
"""Added to the factor: what two shared cores make of a single edit."""
QUIET_S: Final = 2.5
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Bound:
    """What must hold. Memory is that of each service above what it had, in MiB; bytes are what is left afterwards."""

    orchestrator_mib: float = 200
    editor_mib: float = 100
    thinker_mib: float = 100
    cpu_s: float = 10
    redis_mib: float = 8
    blobs_mib: float = 64
    tmp_mib: float = 1

    def text(self) -> str:
        """For the table."""
        return f"{self.orchestrator_mib:g} MiB, {self.cpu_s:g} s CPU, Redis {self.redis_mib:g} MiB, blobs {self.blobs_mib:g} MiB"


@dataclass(frozen=True)
class Scenario:
    """One attack.

    Attributes:
        row: of the fault table that it stands for.
        attack: runs in a process of its own; importable by name.
        statuses: the allowed answers; empty allows every one that is not the server's fault.
        limit_s: how long it may take.
        light: whether `make test` runs it too.
        timed: whether another tenant's edits are timed at the same time.
    """

    row: str
    name: str
    sent: str
    attack: Callable[[Arena, Outcome], None]
    bound: Bound = field(default_factory=Bound)
    statuses: frozenset[str] = frozenset()
    limit_s: float = 60
    light: bool = True
    timed: bool = True


@dataclass
class Played:
    """What was observed.

    Attributes:
        cpu_s: processor seconds of all services, without those of the other tenant's edits.
        left: MiB in Redis, the blob store and the temporary folder.
    """

    scenario: Scenario
    outcome: Outcome
    costs: dict[str, Cost]
    cpu_s: float
    left: dict[str, float]
    quiet: Edits
    attacked: Edits
    seconds: float
    faults: list[str]


def play(place: Arena, scenario: Scenario) -> Played:
    """Play a scenario: another tenant's edits alone, then during the attack."""
    place.fresh_attacker()
    logged = place.log.stat().st_size
    before = place.left()
    quiet, attacked = Edits(), Edits()
    edit_cpu_s = 0.0
    if scenario.timed:
        with watched(place) as alone, timed_edits(place) as quiet:
            time.sleep(QUIET_S)
        edit_cpu_s = sum(cost.cpu_s for cost in alone.values()) / max(1, len(quiet.seconds))
    began = time.monotonic()
    with watched(place) as costs:
        if scenario.timed:
            with timed_edits(place) as attacked:
                outcome = attacked_by(scenario.attack, place, limit_s=scenario.limit_s)
        else:
            outcome = attacked_by(scenario.attack, place, limit_s=scenario.limit_s)
    seconds = time.monotonic() - began
    left = {name: max(0, size - before[name]) / MIB for name, size in place.left().items()}
    cpu_s = max(0.0, sum(cost.cpu_s for cost in costs.values()) - edit_cpu_s * len(attacked.seconds))
    played = Played(scenario, outcome, costs, cpu_s, left, quiet, attacked, seconds, [])
    played.faults = [*outcome.faults, *_passed(place, played), *_logged(place.log, logged)]
    settle(place)
    return played


def settle(place: Arena) -> None:
    """End the attacker's sessions, so that the next scenario starts from quiet."""
    with place.client(ATTACKER) as client:
        for _ in range(20):
            page = client.get("/v1/sessions?limit=100").json().get("data", [])
            unfinished = [session for session in page if not session["finished_at"]]
            for session in unfinished:
                client.post(f"/v1/sessions/{session['id']}/cancel")
            if not unfinished:
                return


def _passed(place: Arena, played: Played) -> list[str]:
    """The bounds that were passed."""
    bound, faults = played.scenario.bound, []
    statuses = played.scenario.statuses
    faults += [f"{count} x {status}" for status, count in played.outcome.answers.items() if statuses and status not in statuses]
    for name, most in (("orchestrator", bound.orchestrator_mib), ("editor", bound.editor_mib), ("thinker", bound.thinker_mib)):
        cost = played.costs.get(name)
        if cost and cost.grown_mib > most:
            faults.append(f"the memory of {name} grew by {cost.grown_mib:.0f} MiB")
    if played.cpu_s > bound.cpu_s:
        faults.append(f"it took {played.cpu_s:.1f} s of the processors")
    for name, most in (("redis", bound.redis_mib), ("blobs", bound.blobs_mib), ("tmp", bound.tmp_mib)):
        if played.left[name] > most:
            faults.append(f"it left {played.left[name]:.1f} MiB in {name}")
    if played.scenario.timed:
        slowest = LATENCY_FACTOR * played.quiet.quantile(0.95) + LATENCY_S
        if played.attacked.quantile(0.95) > slowest:
            faults.append(f"another tenant's p95 is {played.attacked.quantile(0.95):.2f} s, more than {slowest:.2f} s")
        if played.attacked.success < 1:
            faults.append(f"another tenant's edits: {dict(played.attacked.statuses)}")
    faults += [f"{name} has stopped" for name, pid in place.pids.items() if not Path(f"/proc/{pid}/stat").exists()]
    return faults


def _logged(log: Path, after: int) -> list[str]:
    """Records of unexpected errors; one that tells of a dependency's outage is expected where the scenario makes one."""
    with log.open("rb") as file:
        file.seek(after)
        raw = file.read().decode("utf-8", "replace")
    faults = []
    for line in raw.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            faults.append(f"not a log record: {line[:120]!r}")
            continue
        if "Traceback" in line:
            faults.append(f"a trace in the log: {record.get('event', line[:160])!s:.160}")
    return faults[:3]


def row(played: Played) -> str:
    """The row of the table."""
    scenario, costs = played.scenario, played.costs
    answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(played.outcome.answers.items())) or "-"
    notes = "; ".join(f"{name} {value}" for name, value in played.outcome.notes.items())
    cpu = f"{played.cpu_s:.1f} s"
    memory = ", ".join(f"{name} {cost.grown_mib:.0f}" for name, cost in costs.items() if cost.grown_mib >= 1) or "0"
    left = f"{played.left['redis']:.1f}, {played.left['blobs']:.1f}, {played.left['tmp']:.1f} MiB"
    latency = "-"
    if scenario.timed:
        before, after = played.quiet, played.attacked
        latency = (
            f"{before.quantile(0.5):.2f} / {before.quantile(0.95):.2f} → {after.quantile(0.5):.2f} / {after.quantile(0.95):.2f} s"
        )
        latency += "" if after.success == 1 else f" ({after.success:.0%} served)"
    answers += f" ({notes})" if notes else ""
    cells = [scenario.row, scenario.name, scenario.sent, answers, cpu, f"{memory} MiB", left, latency, scenario.bound.text()]
    return f"| {' | '.join(cells)} |"
