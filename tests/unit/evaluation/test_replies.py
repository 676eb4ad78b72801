"""Judges' replies: what is read, and what a hostile one cannot do."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import replies

HOSTILE = [
    "",
    "{" * 20_000,
    "[" * 20_000,
    '{"score": ' * 5_000,
    "{score" * 20_000,
    "9" * 5_000,
    "Final Score: " + "9" * 5_000,
    "Score: " + "9" * 5_000,
    "Final Score" * 20_000,
    '{"score": [NaN, Infinity]}',
    '{"score": [true, "5"]}',
    '{"score": [11, 5]}',
    '{"score": []}',
    '{"score": {"a": 1}}',
    "||V^=^V||||V^=^V||",
    '{"consistency_score": 1e400}',
    '{"consistency_score": -3}',
    '{"winner": ["A", "B"]}',
    "\0\ud800",
    "Prompt: 9\nOther: 3\nThird: 3",
]


@pytest.mark.parametrize("reply", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_reply_is_unread_at_once(reply: str) -> None:
    began = time.thread_time()
    assert replies.imgedit(reply) == []
    assert replies.viescore(reply) is None
    assert replies.risebench(reply) is None
    # The official script takes any lone digit for the score.
    assert replies.krisbench(reply, "consistency") in {None, 1, 2, 3, 4, 5}
    assert replies.krisbench_pair(reply) == (None, None)
    assert replies.protocol(reply) is None
    assert replies.winner(reply) is None
    # Not of the square of the length: that takes seconds.
    assert time.thread_time() - began < 1


@given(st.text(alphabet=st.sampled_from('{}[]":, \nscoreFinalS0123456789./ABtie*|V^=_-')))
def test_any_reply_is_read_or_not(reply: str) -> None:
    assert all(1 <= score <= 5 for score in replies.imgedit(reply))
    scores = replies.viescore(reply)
    assert scores is None or (scores and all(0 <= score <= 10 for score in scores))
    assert replies.krisbench(reply, "quality") in {None, 1, 2, 3, 4, 5}
    assert replies.winner(reply) in {None, "A", "B", "tie"}
    replies.risebench(reply), replies.krisbench_pair(reply), replies.protocol(reply)


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ('{"reasoning": "x", "score": [7, 8]}', [7, 8]),
        ('||V^=^V||{"score": [7, 8]}||V^=^V|| and {"score": [1]}', [7, 8]),
        ('{"reasoning": "he said "no" twice", "score": [7, 8]}', [7, 8]),
        ('```json\n{"score": 6.5}\n```', [6.5]),
        ("[3, 4]", [3, 4]),
        ("10", [10]),
        ("I cannot say", None),
    ],
)
def test_viescores_replies(reply: str, scores: list[float] | None) -> None:
    assert replies.viescore(reply) == scores


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ('{"winner": "Image A"}', "A"),
        ('{"winner": "Tie"}', "tie"),
        ('<think>A is bad</think>{"better_response": "B", "confidence": 3}', "B"),
        ("Image A is dull.\n\nB", "B"),
        ("A or B", None),
    ],
)
def test_the_winner_of_two_pictures(reply: str, said: str | None) -> None:
    assert replies.winner(reply) == said


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ('{"score": [8, 6], "reasoning": "x"}', (8, 6)),
        ('<think>{"score": [1, 1]}</think>{"semantic": 7.5, "quality": 9}', (7.5, 9)),
        ("Semantic: 7\nQuality: 6", (7, 6)),
        ("semantic: 70\nquality: 6", None),
    ],
)
def test_the_two_scores_of_a_judge(reply: str, scores: tuple[float, float] | None) -> None:
    assert replies.protocol(reply) == scores
