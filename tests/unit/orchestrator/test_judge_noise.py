"""What a replica learns of its judges' noise."""

from __future__ import annotations

import pytest

from orchestrator.execution.judge_noise import JudgeNoise
from orchestrator.loop.session import Scores

HOUR = 3600.0


def known(noise: JudgeNoise, now: float = 0.0) -> float:
    return noise.choosing("t", now, confirmations=8).noise


def test_a_judge_that_was_never_asked_twice_is_assumed_to_be_noisy() -> None:
    noise = JudgeNoise()
    noise.repeated("t", [Scores(8, 8)], 0.0)

    assert known(noise) == 0.8


def test_equal_answers_show_a_judge_without_noise() -> None:
    noise = JudgeNoise()
    for _ in range(2):
        noise.repeated("t", [Scores(8, 7), Scores(8, 7)], 0.0)

    assert known(noise) < 0.2
    assert noise.choosing("another", 0.0, confirmations=8).noise == 0.8


def test_the_noise_is_the_deviation_of_repeated_scores() -> None:
    noise = JudgeNoise()
    for _ in range(50):
        noise.repeated("t", [Scores(7, 5), Scores(9, 7)], 0.0)

    assert known(noise) == pytest.approx(2**0.5, abs=0.02)


def test_a_judge_that_changes_is_measured_again() -> None:
    noise = JudgeNoise()
    for _ in range(50):
        noise.repeated("t", [Scores(8, 8), Scores(8, 8)], 0.0)
    for _ in range(50):
        noise.repeated("t", [Scores(7, 7), Scores(9, 9)], 0.0)

    assert known(noise) > 1.2


def test_what_was_measured_long_ago_fades() -> None:
    noise = JudgeNoise()
    for _ in range(10):
        noise.repeated("t", [Scores(8, 8), Scores(8, 8)], 0.0)

    assert known(noise, HOUR) < 0.2
    assert known(noise, 72 * HOUR) > 0.7
