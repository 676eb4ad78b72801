"""Which of two edited pictures is better: by the judge's comparisons and scores, and by people's picks and votes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.trajectories.critiques import Candidate, Document, Scores, candidates_of

Origin = Literal["comparison", "keep_best", "pick", "vote"]
Vote = Literal["leftvote", "rightvote", "tie"]
_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Side:
    """A picture of a pair, and who made it.

    Attributes:
        turn: None for the source, which nobody edited; so is `number`.
        scores: the judge's; None where it was not scored, or the session of a vote is not at hand.
    """

    session: str
    turn: int | None
    number: int | None
    sha256: str
    instruction: str
    model: str
    scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of one source and instruction.

    Attributes:
        source: digest of the source.
        vote: which side is better.
        origin: who says so.
    """

    source: str
    instruction: str
    left: Side
    right: Side
    vote: Vote
    origin: Origin
    thinker: str
    judge: str

    @property
    def key(self) -> bytes:
        """What makes two pairs the same for training, in 16 bytes."""
        pictures = sorted((self.left.sha256, self.right.sha256))
        parts = (self.source, self.instruction, *pictures, self.origin)
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()[:16]

    def gap(self) -> float | None:
        """Points by which the judge's overall score of the better side is higher; None for a tie, or without both scores."""
        if self.vote == "tie" or self.left.scores is None or self.right.scores is None:
            return None
        difference = self.left.scores.overall - self.right.scores.overall
        return difference if self.vote == "leftvote" else -difference


def pairs_of(document: Document) -> Iterator[Pair]:
    """The pairs of a session: comparisons, people's picks, and the best against each other scored candidate."""
    events = document["events"]
    sides = {place: _side(document["id"], candidate) for place, candidate in candidates_of(document).items()}
    created = events[0]
    source = Side(document["id"], None, None, created["source"]["sha256"], created["instruction"], "")
    seen: set[_Place] = set()
    for event in events:
        if event["type"] == "edited":
            seen.add((event["turn"], event["candidate"]))
        elif event["type"] == "compared":
            first = _named(sides, event["first"])
            second = _named(sides, event["second"]) if event.get("second") else source
            if first and second:
                winner = {"first": 1, "second": -1, "tie": 0}[event["winner"]]
                yield _pair(document, first, second, winner, "comparison")
        elif event["type"] == "feedback_given" and event["action"] == "pick":
            chosen = _named(sides, event)
            yield from _against(document, chosen, [sides[place] for place in sorted(seen & sides.keys())], "pick")
    best = _named(sides, events[-1].get("best")) if events[-1]["type"] == "finished" else None
    if best and best.scores:
        most = best.scores.overall
        worse = [side for _, side in sorted(sides.items()) if side.scores and side.scores.overall < most]
        yield from _against(document, best, worse, "keep_best")


def _named(sides: Mapping[_Place, Side], ref: Mapping[str, Any] | None) -> Side | None:
    return sides.get((ref["turn"], ref.get("candidate") or 1)) if ref else None


def _against(document: Document, chosen: Side | None, others: Iterable[Side], origin: Origin) -> Iterator[Pair]:
    for other in others:
        if chosen and other.sha256 != chosen.sha256:
            yield _pair(document, chosen, other, 1, origin)


def pair_of_vote(line: Mapping[str, Any]) -> Pair:
    """The pair of a line of the export of votes."""
    left, right = (
        Side(
            each["session_id"],
            each.get("turn"),
            each.get("candidate"),
            each["sha256"],
            each.get("instruction") or line["instruction"],
            each.get("editor") or "",
        )
        for each in (line["a"], line["b"])
    )
    winner = {"a": 1, "b": -1, "tie": 0}[line["choice"]]
    made = line["a"] if line["a"].get("editor") else line["b"]
    return _arranged(
        line["source"], line["instruction"], left, right, winner, "vote", made.get("thinker") or "", made.get("judge") or ""
    )


def _side(session: str, candidate: Candidate) -> Side:
    return Side(
        session,
        candidate.turn,
        candidate.number,
        candidate.sha256,
        candidate.instruction,
        candidate.editor,
        candidate.scores,
    )


def _pair(document: Document, first: Side, second: Side, winner: int, origin: Origin) -> Pair:
    created = document["events"][0]
    judge = created.get("judge") or created["thinker"]
    source, instruction = created["source"]["sha256"], created["instruction"]
    return _arranged(source, instruction, first, second, winner, origin, created["thinker"], judge)


def _arranged(  # noqa: PLR0913, PLR0917 - the fields of a pair
    source: str, instruction: str, first: Side, second: Side, winner: int, origin: Origin, thinker: str, judge: str
) -> Pair:
    """The pair with its sides in an order that says nothing, and is the same in every export."""
    text = "\x00".join([*sorted((first.sha256, second.sha256)), source])
    swap = bool(hashlib.sha256(text.encode()).digest()[0] & 1) != (first.sha256 > second.sha256)
    left, right = (second, first) if swap else (first, second)
    won: Vote = "tie" if not winner else "leftvote" if (winner > 0) != swap else "rightvote"
    return Pair(source, instruction, left, right, won, origin, thinker, judge)
