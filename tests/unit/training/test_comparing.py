"""Sessions of four edits, what is chosen in them, and the differences that the table reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from training.miniature import colour, comparing, evaluating
from training.miniature.comparing import Session
from training.miniature.rows import TaughtTurn, taught
from training.miniature.turns import first_turn
from training.miniature.world import INTENTS, edit, scene, written
from training.replies import parse, rendered


@pytest.fixture(scope="module")
def rows() -> list[TaughtTurn]:
    made = []
    for index, intent in enumerate(INTENTS):
        rng = np.random.default_rng(index)
        made += taught(scene(intent, rng), rng)
    return made


def saying(semantic: Sequence[float], instructions: Sequence[str]) -> evaluating.Thinker:
    """A thinker that gives its n-th candidate the n-th score, and asks for the n-th instruction next."""
    asked = [0]

    def think(turns: Sequence[TaughtTurn]) -> list[str]:
        number = asked[0]
        asked[0] += 1
        return [rendered("seen", semantic[number], 10, instructions[number]) for _ in turns]

    return think


def test_one_turn_of_each_scene_is_kept_in_order(rows: list[TaughtTurn]) -> None:
    first = comparing.one_a_scene(rows)
    assert [row.turn.scene.intent for row in first] == list(INTENTS)
    assert first[0] is rows[0]


def test_a_session_begins_with_the_callers_words_and_edits_the_source_each_time(rows: list[TaughtTurn]) -> None:
    one = comparing.one_a_scene(rows)[1:2]
    made = one[0].turn.scene
    steps = ["exposure +40%", "contrast -20%", "warmth +12%", "unused"]
    (session,) = comparing.sessions(one, saying([1, 2, 3, 4], steps))
    wanted = [colour.distance(edit(made.source, text, made.seed), made.target) for text in steps[:3]]
    assert session.distances == [colour.distance(first_turn(made).candidate, made.target), *wanted]
    assert session.scores == [pytest.approx((10 * score) ** 0.5) for score in (1, 2, 3, 4)]


def test_the_best_score_chooses_and_of_equal_ones_the_earliest() -> None:
    assert Session([9.0, 3.0, 5.0, 7.0], [1.0, 8.0, 9.0, 2.0]).chosen == 5
    assert Session([9.0, 3.0, 5.0, 7.0], [6.0, 6.0, 6.0, 6.0]).chosen == 9
    assert Session([9.0, 3.0, 5.0, 7.0], [-1.0, 0.0, -1.0, -1.0]).chosen == 3


@pytest.mark.parametrize("said", ["nonsense", rendered("seen", 5, 5, ""), rendered("seen", 5, 5, "a dog, please")])
def test_what_cannot_be_carried_out_leaves_the_candidate(rows: list[TaughtTurn], said: str) -> None:
    found = comparing.sessions(rows[:1], lambda turns: [said for _ in turns])
    assert len(set(found[0].distances)) == 1
    assert found[0].scores == ([-1.0] * 4 if parse(said) is None else [5.0] * 4)


def test_the_look_up_obeys_orders_and_knows_nothing_else_of_a_scene(rows: list[TaughtTurn]) -> None:
    one = comparing.one_a_scene(rows)
    table = {row.turn.scene.key: written({}) for row in one}
    found = comparing.baselines(one, table)
    order = [row.turn.scene.intent for row in one].index("order")
    for index, (nothing, looked_up) in enumerate(zip(found["do nothing"], found["look-up"], strict=True)):
        if index == order:
            assert looked_up < nothing
        else:
            assert looked_up == pytest.approx(nothing, abs=0.6)  # rounding to eight bits


def test_the_best_of_several_seeds_is_not_worse_than_one(rows: list[TaughtTurn]) -> None:
    found = comparing.baselines(comparing.one_a_scene(rows), {row.turn.scene.key: written({}) for row in rows})
    several = found[f"best of {comparing.EDITS}, by the target"]
    assert all(best <= single for best, single in zip(several, found["single"], strict=True))


def test_differences_are_paired_and_their_intervals_resample_clusters() -> None:
    near = [Session([9.0, value, 9.0, 9.0], [0.0, 1.0, 0.0, 0.0]) for value in (1.0, 2.0, 3.0, 4.0)]
    far = [Session([9.0, session.second + 1, 9.0, 9.0], [0.0, 1.0, 0.0, 0.0]) for session in near]
    found = comparing.differences([{"grpo": near, "sft-longer": far}], ["a", "a", "b", "b"])
    second, chosen = found["grpo - sft-longer"]
    # Values differ by scene, the differences do not: a paired interval has no width.
    assert (second.mean, second.low, second.high) == (-1, -1, -1)
    assert chosen == second
    assert comparing.verdict(second) == "RL is better than its control"


def test_seeds_are_averaged_by_scene_before_scenes_are_resampled() -> None:
    def run(second: list[float]) -> dict[str, list[Session]]:
        control = [Session([9.0, 5.0], [0.0, 1.0]) for _ in second]
        return {"grpo": [Session([9.0, value], [0.0, 1.0]) for value in second], "sft-longer": control}

    # One seed gains where the other loses: together there is nothing, with certainty.
    found = comparing.differences([run([4.0, 6.0, 4.0]), run([6.0, 4.0, 6.0])], ["a", "b", "c"])["grpo - sft-longer"][0]
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    alone = comparing.differences([run([4.0, 6.0, 4.0])], ["a", "b", "c"])["grpo - sft-longer"][0]
    assert alone.low < alone.high


@pytest.mark.parametrize(
    ("low", "high", "told"), [(-1, -0.1, "better than"), (-1, 1, "does not differ from"), (0.1, 1, "worse than")]
)
def test_a_verdict_is_no_better_than_its_interval(low: float, high: float, told: str) -> None:
    assert told in comparing.verdict(evaluating.Mean((low + high) / 2, low, high))


def test_an_interval_over_few_looks_is_wider_than_one_over_their_scenes() -> None:
    values = [1.0, 1.1, 0.9, 5.0, 5.1, 4.9]
    by_look = evaluating.mean_of(values, ["a", "a", "a", "b", "b", "b"])
    by_scene = evaluating.mean_of(values, list(range(6)))
    assert by_look.mean == by_scene.mean
    assert by_look.high - by_look.low > by_scene.high - by_scene.low
