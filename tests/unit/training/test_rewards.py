from __future__ import annotations

import asyncio
from typing import Any

import pytest

from training.replies import rendered
from training.rewards import FailedEditError, RefusedEditError, RewardFunction, Scores, Weights, trl_reward


class Studio:
    """An editor and a judge whose pictures are numbers: the semantic score that they have."""

    name = "judge"

    def __init__(self) -> None:
        self.edits: list[tuple[str, int]] = []
        self.open = 0
        self.most_open = 0

    async def edit(self, sample: str, instruction: str, seed: int) -> float:
        self.edits.append((instruction, seed))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        if instruction == "refused":
            raise RefusedEditError
        if instruction == "down" or (instruction == "flaky" and seed == 1):
            raise FailedEditError
        return float(instruction.rsplit(maxsplit=1)[-1]) + seed

    async def score(self, sample: str, picture: float | None) -> Scores:
        if sample == "unjudged":
            raise FailedEditError
        return Scores(4.0 if picture is None else picture, 8.0)


def function(studio: Studio, seeds: int = 1, **options: Any) -> RewardFunction[str, float]:
    return RewardFunction(studio, studio, thinker="thinker", seeds_of=lambda _: list(range(seeds)), **options)


def reply(instruction: str, semantic: float = 4, quality: float = 8) -> str:
    return rendered("seen", semantic, quality, instruction)


async def test_the_parts_are_the_published_ones() -> None:
    (reward,) = await function(Studio())([reply("to 9", semantic=6)], ["a"])
    assert (reward.form, reward.edit, reward.critic) == (1, 0.75, 0.9)
    assert reward.total == pytest.approx(0.2 + 0.6 * 0.75 + 0.2 * 0.9)


async def test_several_seeds_are_averaged() -> None:
    (reward,) = await function(Studio(), seeds=3)([reply("to 4")], ["a"])
    assert reward.edit == pytest.approx(0.55)
    assert reward.seeds == 3


async def test_a_failed_edit_is_masked() -> None:
    (reward,) = await function(Studio())([reply("down")], ["a"])
    assert (reward.total, reward.outcome) == (None, "failed")


async def test_one_failed_seed_of_several_does_not_count() -> None:
    studio = Studio()
    studio.edit = _flaky(studio)  # type: ignore[method-assign]
    (reward,) = await function(studio, seeds=2)([reply("to 6")], ["a"])
    assert reward.edit == pytest.approx(0.6)
    assert reward.seeds == 1


def _flaky(studio: Studio) -> Any:
    async def edit(sample: str, instruction: str, seed: int) -> float:
        if seed == 1:
            raise FailedEditError
        return float(instruction.rsplit(maxsplit=1)[-1])

    return edit


async def test_a_sample_that_cannot_be_judged_is_masked() -> None:
    (reward,) = await function(Studio())([reply("to 9")], ["unjudged"])
    assert (reward.total, reward.outcome) == (None, "failed")


async def test_a_refused_edit_earns_nothing_for_its_edit() -> None:
    (reward,) = await function(Studio())([reply("refused")], ["a"])
    assert (reward.edit, reward.outcome) == (0, "refused")
    assert reward.total == pytest.approx(0.4)


async def test_an_unreadable_reply_earns_nothing_and_is_not_edited() -> None:
    studio = Studio()
    (reward,) = await function(studio)(["brighten it to 9"], ["to 9"])
    assert (reward.total, reward.outcome, studio.edits) == (0, "unreadable", [])


async def test_an_empty_instruction_is_not_edited_and_earns_less_than_no_change() -> None:
    studio = Studio()
    empty, unchanged = await function(studio)([reply(""), reply("to 4")], ["a", "a"])
    assert empty.total is not None
    assert unchanged.total is not None
    assert empty.total < unchanged.total
    assert studio.edits == [("to 4", 0)]


async def test_equal_instructions_to_one_sample_are_edited_once() -> None:
    studio, sample = Studio(), "a"
    await function(studio)([reply("to 9"), reply("to 9", semantic=1)], [sample, sample])
    assert studio.edits == [("to 9", 0)]


async def test_a_bounded_number_of_edits_is_in_flight() -> None:
    studio = Studio()
    await function(studio, seeds=4, parallel=3)([reply(f"to {number}") for number in range(8)], ["a"] * 8)
    assert studio.most_open == 3


def test_a_thinker_does_not_judge_itself() -> None:
    studio = Studio()
    with pytest.raises(ValueError, match="cannot judge itself"):
        RewardFunction(studio, studio, thinker="judge", seeds_of=lambda _: [0])


def test_weights_are_shares_of_one() -> None:
    with pytest.raises(ValueError, match="not shares"):
        Weights(0.5, 0.6, 0.2)


async def test_trl_gets_a_list_of_numbers_and_nones_and_every_part_is_logged() -> None:
    logged: list[dict[str, Any]] = []
    called = trl_reward(function(Studio()), ["a", "b"].__getitem__, logged.append)
    completions = [
        [{"role": "assistant", "content": reply("to 9")}],
        [{"role": "assistant", "content": [{"type": "text", "text": reply("down")}]}],
    ]
    assert await called(prompts=[None, None], completions=completions, sample=[0, 1], trainer_state=None) == [
        pytest.approx(0.85),
        None,
    ]
    assert [(row["sample"], row["outcome"], row["edit"]) for row in logged] == [(0, "edited", 0.75), (1, "failed", None)]
