"""The random plan: who is killed, stopped or restarted, when, and for how long. A pure function of its seed.

Whatever is done is undone: a killed process is started again, a stopped one goes on. One of a kind is always left
alone where there are several; Redis and HAProxy, of which there is one, are away for a moment only.

    kill      SIGKILL, and start again
    pause     SIGSTOP, and SIGCONT
    restart   SIGTERM, and start again
    zombie    an orchestrator is stopped for longer than its lease, and wakes while Redis is stopped: what it wants to
              record arrives together with its question whether it still may, which is what fences are for
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Verb = Literal["kill", "pause", "restart", "zombie"]
Kind = Literal["orchestrator", "editor", "thinker", "haproxy", "redis"]

VERBS: Mapping[Verb, float] = {"kill": 5, "pause": 3, "restart": 2, "zombie": 2}
WEIGHTS: Mapping[Kind, float] = {"orchestrator": 8, "editor": 5, "thinker": 3, "haproxy": 2, "redis": 2}
AWAY_S: Mapping[Kind, tuple[float, float]] = {
    "orchestrator": (0.2, 4.0),
    "editor": (0.2, 4.0),
    "thinker": (0.2, 4.0),
    "haproxy": (0.1, 1.5),
    "redis": (0.1, 1.5),
}
ZOMBIE_S = (3.0, 4.5)
FREEZE_S = 0.6
"""How long Redis is stopped when a zombie wakes."""
REDIS = "redis-1"
SETTLE_S = 4.0
"""How long a process counts as away after it is back: it must start, and be found ready."""


@dataclass(frozen=True)
class Action:
    """What to do to whom: `away_s` is how long it stays killed or stopped."""

    verb: Verb
    member: str
    away_s: float


@dataclass(frozen=True)
class Seen:
    """A process, and until when it is not to be touched because of what was done to it before."""

    kind: Kind
    busy_until: float = 0.0


def choose(rng: random.Random, fleet: Mapping[str, Seen], at: float) -> Action | None:
    """An action at that time; None if too few processes are left."""
    free: dict[Kind, list[str]] = {}
    for name, seen in fleet.items():
        if seen.busy_until <= at:
            free.setdefault(seen.kind, []).append(name)
    several = {kind for kind in WEIGHTS if sum(seen.kind == kind for seen in fleet.values()) > 1}
    kinds = [kind for kind in WEIGHTS if len(free.get(kind, [])) > (kind in several)]
    if not kinds:
        return None
    (kind,) = rng.choices(kinds, [WEIGHTS[kind] for kind in kinds])
    verbs = [verb for verb in VERBS if verb != "zombie" or (kind == "orchestrator" and fleet[REDIS].busy_until <= at)]
    (verb,) = rng.choices(verbs, [VERBS[verb] for verb in verbs])
    away = ZOMBIE_S if verb == "zombie" else AWAY_S[kind]
    return Action(verb, rng.choice(free[kind]), round(rng.uniform(*away), 2))


def schedule(seed: int, fleet: Mapping[str, Kind], every_s: float, lasts_s: float) -> Iterator[tuple[float, Action]]:
    """(seconds from the start, action), about every `every_s` seconds."""
    rng = random.Random(seed)
    seen = {name: Seen(kind) for name, kind in fleet.items()}
    at = 0.0
    while (at := at + every_s * rng.uniform(0.5, 1.5)) < lasts_s:
        action = choose(rng, seen, at)
        if action is not None:
            for name in (action.member, REDIS) if action.verb == "zombie" else (action.member,):
                seen[name] = Seen(fleet[name], at + action.away_s + SETTLE_S)
            yield at, action
