"""The random plan: which process is killed, paused or restarted, when, and for how long. A pure function of its seed.

Every action is undone: a killed process is restarted, a paused one is resumed. Where there are several of a kind, one is
always spared. Redis and HAProxy, of which there is one, are away for a moment only.

    kill      SIGKILL, then start
    pause     SIGSTOP, then SIGCONT
    restart   SIGTERM, then start
    zombie    an orchestrator is paused for longer than its lease, and resumes while Redis is paused: its writes arrive
              together with the renewal of its lease, which is what fences are for
    skew      the wall clock of an orchestrator jumps, and jumps back
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Verb = Literal["kill", "pause", "restart", "zombie", "skew"]
Kind = Literal["orchestrator", "editor", "thinker", "haproxy", "redis"]

VERBS: Mapping[Verb, float] = {"kill": 5, "pause": 3, "restart": 2, "zombie": 2, "skew": 2}
WEIGHTS: Mapping[Kind, float] = {"orchestrator": 8, "editor": 5, "thinker": 3, "haproxy": 2, "redis": 2}
AWAY_S: Mapping[Kind, tuple[float, float]] = {
    "orchestrator": (0.2, 4.0),
    "editor": (0.2, 4.0),
    "thinker": (0.2, 4.0),
    "haproxy": (0.1, 1.5),
    "redis": (0.1, 1.5),
}
ZOMBIE_S = (3.0, 4.5)
SKEW_S = (2.5, 4.5)
AHEAD_S = (-900.0, -40.0, 40.0, 900.0)
FREEZE_S = 0.6
"""How long Redis is paused when a zombie resumes."""
REDIS = "redis-1"
SETTLE_S = 4.0
"""How long a process counts as away after it is back: it must start and become ready."""


@dataclass(frozen=True)
class Action:
    """One action on one process: `away_s` is how long it stays killed or paused, or its clock wrong."""

    verb: Verb
    member: str
    away_s: float
    ahead_s: float = 0.0
    """Of a clock."""


@dataclass(frozen=True)
class Target:
    """A process, and until when it is spared because of an earlier action."""

    kind: Kind
    busy_until: float = 0.0


def choose(rng: random.Random, fleet: Mapping[str, Target], at: float) -> Action | None:
    """Choose an action at that time; None if every process must be spared."""
    free: dict[Kind, list[str]] = {}
    for name, seen in fleet.items():
        if seen.busy_until <= at:
            free.setdefault(seen.kind, []).append(name)
    several = {kind for kind in WEIGHTS if sum(seen.kind == kind for seen in fleet.values()) > 1}
    kinds = [kind for kind in WEIGHTS if len(free.get(kind, [])) > (kind in several)]
    if not kinds:
        return None
    (kind,) = rng.choices(kinds, [WEIGHTS[kind] for kind in kinds])
    verbs = [verb for verb in VERBS if verb not in {"zombie", "skew"} or kind == "orchestrator"]
    if fleet[REDIS].busy_until > at:
        verbs = [verb for verb in verbs if verb != "zombie"]
    (verb,) = rng.choices(verbs, [VERBS[verb] for verb in verbs])
    away = {"zombie": ZOMBIE_S, "skew": SKEW_S}.get(verb, AWAY_S[kind])
    ahead_s = rng.choice(AHEAD_S) if verb == "skew" else 0.0
    return Action(verb, rng.choice(free[kind]), round(rng.uniform(*away), 2), ahead_s)


def schedule(seed: int, fleet: Mapping[str, Kind], every_s: float, lasts_s: float) -> Iterator[tuple[float, Action]]:
    """Yield (seconds from the start, action), about every `every_s` seconds."""
    rng = random.Random(seed)
    seen = {name: Target(kind) for name, kind in fleet.items()}
    at = 0.0
    while (at := at + every_s * rng.uniform(0.5, 1.5)) < lasts_s:
        action = choose(rng, seen, at)
        if action is not None:
            for name in (action.member, REDIS) if action.verb == "zombie" else (action.member,):
                seen[name] = Target(fleet[name], at + action.away_s + SETTLE_S)
            yield at, action
