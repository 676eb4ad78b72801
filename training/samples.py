"""What a reward has to know of a row: the source, what was wanted, and the candidate that the thinker was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from training.rewards import Scores

PICTURES: Final = 2
"""Source and candidate. Rows with more had references or a mask, which a row does not tell apart."""
_SEED_STEP: Final = 7919


class UnusableRowError(ValueError):
    """A row that no edit can be made for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question to the thinker, as `editthinker export` tells of it.

    Attributes:
        id: of the row.
        instruction: the caller's, which every candidate is judged by.
        turn_instruction: that the candidate was made with.
        source: the picture's file, without metadata.
        seed: the candidate's.
        editor: the name of the editor that made it; empty for the server's default.
        judge: the name of the model whose `scores` these are.
        scores: of the candidate; None where the judge gave none.
    """

    id: str
    instruction: str
    turn_instruction: str
    source: bytes
    seed: int
    editor: str
    judge: str
    scores: Scores | None


def sample(row: Mapping[str, Any], pictures: Sequence[bytes]) -> Sample:
    """The sample of a row.

    Args:
        row: the columns of ``--as trl``, or ``extra_info`` of ``--as verl``.
        pictures: files of the row's ``images``.

    Raises:
        UnusableRowError: the session had references or a mask, which a row does not tell apart.
    """
    if len(pictures) != PICTURES:
        raise UnusableRowError(f"{row['id']} has {len(pictures)} pictures; a source and a candidate are two")
    scores = row["scores"]
    return Sample(
        id=row["id"],
        instruction=row["instruction"],
        turn_instruction=row["turn_instruction"],
        source=pictures[0],
        seed=row["seed"] or 0,
        editor=row["editor"] or "",
        judge=row["judge"] or "",
        scores=None if scores is None else Scores(scores["semantic"], scores["quality"]),
    )


def seeds_of(asked: Sample, count: int) -> list[int]:
    """The candidate's own seed, and `count` - 1 others: with its own alone, what is learned is the seed."""
    return [(asked.seed + _SEED_STEP * step) % 2**31 for step in range(count)]
