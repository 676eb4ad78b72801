"""What the events of an exported session say of each critique: its scores, the turn that it led to, and the reward of that."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Document = Mapping[str, Any]
Role = Literal["critique", "refine"]
_ROLES: Final[Mapping[str, Role]] = {"critiqued": "critique", "verified": "critique", "refined": "refine"}
_SCORED: Final = frozenset({"critiqued", "verified"})
_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Scores:
    """A judge's scores, 0 to 10; `overall` is their geometric mean."""

    semantic: float
    quality: float

    @property
    def overall(self) -> float:
        """sqrt(semantic x quality)."""
        return math.sqrt(max(0.0, self.semantic * self.quality))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One edited picture of a session.

    Attributes:
        instruction: that of its turn.
        sha256: of the picture as the editor made it.
        scores: the means of all critiques; None without one.
        disagreement: the largest difference between two semantic scores of it, in points of 10.
    """

    turn: int
    number: int
    instruction: str
    seed: int
    sha256: str
    editor: str
    scores: Scores | None
    disagreement: float


@dataclass(frozen=True, slots=True)
class Critique:
    """One critique, and what came of it.

    Attributes:
        seq: the number of its event.
        role: a critique with scores, or the next instruction for another judge's scores.
        candidate: the one it is about.
        scores: its own; for `refine` those of the judge.
        thinker: who wrote it.
        judge: who scored.
        refined: the instruction that it proposes; None keeps the turn's.
        gain: points of the semantic score that the turn made with its instruction has more than its candidate; None where it
            led to none, or none of that turn's candidates has a score.
        repaired: whether it is the second answer, to a complaint about an unreadable first.
    """

    seq: int
    role: Role
    candidate: Candidate
    scores: Scores | None
    thinker: str
    judge: str
    refined: str | None
    gain: float | None
    repaired: bool

    @property
    def reward(self) -> float | None:
        """The published reward; None where the critique led to no scored turn."""
        return None if self.gain is None else reward(self.gain)


def reward(gain: float, *, readable: bool = True) -> float:
    """EditThinker's reward of a reply, as its training code has it: 0.5 x format + 0.5 x (gain / 10 + 1) / 2, from 0 to 1.

    Args:
        gain: the change of the semantic score, -10 to 10.
        readable: whether the reply has the required form.
    """
    return 0.5 * readable + 0.5 * (gain / 10 + 1) / 2


def candidates_of(document: Document) -> dict[_Place, Candidate]:
    """The pictures of a session, by turn and number."""
    events = document["events"]
    created = events[0]
    instructions: dict[int, str] = {}
    seeds: dict[_Place, int] = {}
    made: dict[_Place, Mapping[str, Any]] = {}
    for event in events:
        if event["type"] == "turn_started":
            instructions[event["turn"]] = event["instruction"]
        elif event["type"] == "edit_started":
            seeds[_place(event)] = event["seed"]
        elif event["type"] == "edited":
            made[_place(event)] = event
    scores = _scores(events)
    return {
        place: Candidate(
            *place,
            instructions[place[0]],
            seeds.get(place, created["seed"]),
            event["image"]["sha256"],
            event.get("editor") or created["editor"],
            _mean(scores.get(place, [])),
            _disagreement(scores.get(place, [])),
        )
        for place, event in made.items()
        if place[0] in instructions
    }


def critiques_of(document: Document) -> list[Critique]:
    """The critiques whose replies were kept, in their order."""
    events = document["events"]
    created = events[0]
    candidates = candidates_of(document)
    led_to = _led_to(events, candidates)
    judge = created.get("judge") if created.get("judge_scores", True) else None
    scorer = judge or created["thinker"]
    found = []
    for event in events:
        role = _ROLES.get(event["type"])
        candidate = candidates.get(_place(event)) if role else None
        if role is None or candidate is None or not event.get("reply"):
            continue
        own = Scores(event["semantic"], event["quality"]) if role == "critique" else candidate.scores
        new = led_to.get(event["seq"])
        gain = new - own.semantic if new is not None and own is not None else None
        writer = event.get("thinker") or (scorer if role == "critique" else created["thinker"])
        found.append(
            Critique(
                event["seq"], role, candidate, own, writer, scorer, event.get("instruction"), gain, event.get("repaired", False)
            )
        )
    return found


def without_repeats(critiques: Sequence[Critique]) -> list[Critique]:
    """One critique of each candidate and role: that which led to a turn, or else the first."""
    best: dict[tuple[_Place, Role], Critique] = {}
    for each in critiques:
        name = ((each.candidate.turn, each.candidate.number), each.role)
        if name not in best or (best[name].gain is None and each.gain is not None):
            best[name] = each
    chosen = {each.seq for each in best.values()}
    return [each for each in critiques if each.seq in chosen]


def key_of(document: Document, critique: Critique) -> bytes:
    """What makes two critiques the same for training: source, instruction and picture, in 16 bytes."""
    created = document["events"][0]
    parts = (created["source"]["sha256"], created["instruction"], critique.candidate.sha256, critique.role)
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()[:16]


def _led_to(events: Sequence[Mapping[str, Any]], candidates: Mapping[_Place, Candidate]) -> dict[int, float]:
    """By critique, the mean semantic score of the turn that was made with its instruction: the latest one before that turn with
    these words.
    """
    found: dict[int, float] = {}
    before: list[Mapping[str, Any]] = []
    for event in events:
        if event["type"] in _ROLES:
            before.append(event)
        if event["type"] != "turn_started" or event.get("author") != "thinker" or event.get("renders"):
            continue
        semantic = [each.scores.semantic for each in candidates.values() if each.turn == event["turn"] and each.scores]
        origin = next((each for each in reversed(before) if each.get("instruction") == event["instruction"]), None)
        if semantic and origin is not None:
            found.setdefault(origin["seq"], statistics.fmean(semantic))
    return found


def _scores(events: Sequence[Mapping[str, Any]]) -> dict[_Place, list[Scores]]:
    found: dict[_Place, list[Scores]] = {}
    for event in events:
        if event["type"] in _SCORED:
            found.setdefault(_place(event), []).append(Scores(event["semantic"], event["quality"]))
    return found


def _place(event: Mapping[str, Any]) -> _Place:
    return event["turn"], event["candidate"]


def _mean(scores: Sequence[Scores]) -> Scores | None:
    if not scores:
        return None
    return Scores(statistics.fmean(each.semantic for each in scores), statistics.fmean(each.quality for each in scores))


def _disagreement(scores: Sequence[Scores]) -> float:
    semantic = [each.semantic for each in scores]
    return max(semantic) - min(semantic) if semantic else 0.0
