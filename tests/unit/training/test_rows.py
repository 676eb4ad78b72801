from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.metrics import MetricsFile
from training.miniature import evaluating, rows
from training.miniature.rows import TaughtTurn, taught
from training.miniature.turns import NEAR, TargetJudge, judged, turn
from training.miniature.world import INTENTS, read, scene
from training.replies import parse


@pytest.fixture(scope="module")
def few() -> list[TaughtTurn]:
    made = []
    for index, intent in enumerate(INTENTS):
        rng = np.random.default_rng(index)
        made += taught(scene(intent, rng), rng)
    return made


def test_every_taught_reply_is_readable_and_its_instruction_is_never_empty(few: list[TaughtTurn]) -> None:
    for row in few:
        reply = parse(row.reply)
        assert reply is not None
        assert read(reply.instruction) is not None
        assert reply.instruction


def test_scores_are_those_of_the_judge(few: list[TaughtTurn]) -> None:
    for row in few:
        reply, scores = parse(row.reply), judged(row.turn.scene, row.turn.candidate)
        assert reply is not None
        assert abs(reply.semantic - scores.semantic) <= 0.25 + 1e-9
        assert abs(reply.quality - scores.quality) <= 0.25 + 1e-9


def test_candidates_of_all_qualities_are_taught() -> None:
    semantic = []
    for index in range(60):
        rng = np.random.default_rng(index)
        made = scene("exposure", rng)
        semantic.append(judged(made, turn(made, rng, {"exposure": 40}).candidate).semantic)
    counted, _ = np.histogram(semantic, [0, 1, 5, 10])
    assert min(counted) >= 5


async def test_the_judge_gives_the_target_full_marks_and_the_source_none() -> None:
    made = next(one for one in (scene("exposure", np.random.default_rng(index)) for index in range(20)) if one.whole > NEAR)
    asked = turn(made, np.random.default_rng(1))
    assert (await TargetJudge().score(asked, made.target)).semantic == 10
    assert (await TargetJudge().score(asked, made.source)).semantic == 0


def test_a_shard_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SHARD", 8)
    first = rows.shard(tmp_path, 0, 1)
    monkeypatch.setattr(rows, "taught", None)  # a second search would fail
    second = rows.shard(tmp_path, 0, 1)
    assert [row.reply for row in first] == [row.reply for row in second]
    assert len(first) == 8 * rows.TURNS
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.turn.candidate, other.turn.candidate)
        assert (one.turn.scene.reference is None) == (other.turn.scene.reference is None)


def test_the_taught_replies_are_reported_as_right(few: list[TaughtTurn]) -> None:
    right = evaluating.report(few, [row.reply for row in few])
    assert (right.valid, right.carried_out, right.exact) == (1, 1, 1)
    assert right.correlation > 0.99
    assert right.refined.mean <= right.best.mean + 1


def test_unreadable_replies_leave_the_candidate(few: list[TaughtTurn]) -> None:
    wrong = evaluating.report(few, ["nonsense"] * len(few))
    assert (wrong.valid, wrong.carried_out, wrong.exact) == (0, 0, 0)
    assert wrong.refined == wrong.candidate


def test_metrics_are_read_back_without_a_line_that_a_kill_cut(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics({"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": ')
    assert metrics.read() == [{"step": 1}]
    resumed = MetricsFile(tmp_path / "metrics.jsonl")
    resumed({"step": 2})
    assert resumed.read() == [{"step": 1}, {"step": 2}]
