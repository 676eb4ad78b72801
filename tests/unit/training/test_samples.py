from __future__ import annotations

from typing import Any

import pytest

from training.rewards import Scores
from training.samples import UnusableRowError, sample, seeds_of


def row(**changes: Any) -> dict[str, Any]:
    scores = {"semantic": 4.0, "quality": 9.0, "overall": 6.0}
    about = {"id": "a", "instruction": "warmer", "turn_instruction": "warmth +20%", "seed": 5, "editor": "e", "judge": "j"}
    return {**about, "scores": scores, **changes}


def test_a_row_is_source_and_candidate() -> None:
    made = sample(row(), [b"source", b"candidate"])
    assert (made.source, made.instruction, made.turn_instruction) == (b"source", "warmer", "warmth +20%")
    assert (made.seed, made.editor, made.judge, made.scores) == (5, "e", "j", Scores(4, 9))


@pytest.mark.parametrize("pictures", [[b"source"], [b"source", b"reference", b"candidate"]])
def test_other_pictures_cannot_be_told_apart(pictures: list[bytes]) -> None:
    with pytest.raises(UnusableRowError, match=f"has {len(pictures)} pictures"):
        sample(row(), pictures)


def test_a_row_without_scores_or_names_is_a_sample() -> None:
    made = sample(row(scores=None, editor=None, judge=None, seed=None), [b"source", b"candidate"])
    assert (made.scores, made.editor, made.judge, made.seed) == (None, "", "", 0)


def test_the_candidates_own_seed_comes_first() -> None:
    made = sample(row(seed=2**31 - 1), [b"source", b"candidate"])
    seeds = seeds_of(made, 3)
    assert seeds[0] == 2**31 - 1 and len(set(seeds)) == 3 and all(0 <= seed < 2**31 for seed in seeds)
