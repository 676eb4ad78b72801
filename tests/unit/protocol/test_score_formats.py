"""Judges that only give scores: what is read from their replies, and that nothing else is a score."""

from __future__ import annotations

import json
import math
import random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocol.critique.digit import FIX
from services.protocol.critique.messages import Unparseable, UnparseableReason
from services.protocol.critique.replies import Reply, read_completion
from services.protocol.critique.score_formats import SCORE_FORMATS, ScoreFormatName, quality_messages
from services.protocol.critique.scores import Rating

REASONS = set(get_args(UnparseableReason))
OBJECT = '{"reasoning": "the sky is golden", "score": [20, 15]}'
SKY = Rating(6.0, "the sky is golden", (20.0, 15.0))
EDITSCORE = SCORE_FORMATS["editscore"].reply_format
DIGIT = SCORE_FORMATS["digit"].reply_format


def choice(content: Any = "4", top: Any = None, **first: Any) -> dict[str, Any]:
    """A completion whose first token has these alternatives, by text and probability."""
    rows = [{"token": token, "logprob": math.log(share)} for token, share in (top or {}).items()]
    logprobs = {"content": [{"token": content, "top_logprobs": rows, **first}]} if top is not None else None
    return {"choices": [{"message": {"content": content}, "finish_reason": "length", "logprobs": logprobs}]}


def digit(top: dict[str, float]) -> Rating | Unparseable:
    reply = read_completion(choice(top=top))
    assert isinstance(reply, Reply)
    return DIGIT.parse(reply)


@pytest.mark.parametrize(
    "content",
    [
        OBJECT,
        f"```json\n{OBJECT}\n```",
        f"<think>[25, 25] would be perfect</think>\n{OBJECT}",
        f"Here is my evaluation:\n{OBJECT}",
        f"{OBJECT}\n{OBJECT}",
        '{"reasoning": "the sky is golden", "score": ["20", " 15 / 25 "]}',
        '{"score": [20.0, 15], "reasoning": "the sky is golden", "confidence": 1}',
    ],
)
def test_the_lower_of_the_pair_counts(content: str) -> None:
    """On a scale of 10, however the object is wrapped."""
    assert EDITSCORE.parse(Reply(content, finish_reason="stop")) == SKY


def test_a_pair_in_the_reasoning_field_is_read() -> None:
    assert EDITSCORE.parse(Reply("", OBJECT, "stop")) == SKY


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"reasoning": "x", "score": 20}', "wrong_shape"),
        ('{"reasoning": "x", "score": [20]}', "wrong_shape"),
        ('{"reasoning": "x", "score": [20, 15, 3]}', "wrong_shape"),
        ('{"reasoning": "x", "score": {"a": 1, "b": 2}}', "wrong_shape"),
        ('{"reasoning": ["x"], "score": [20, 15]}', "wrong_shape"),
        ('{"reasoning": "x", "score": [20, 26]}', "score_out_of_range"),
        ('{"reasoning": "x", "score": [-1, 15]}', "score_out_of_range"),
        ('{"reasoning": "x", "score": [20, NaN]}', "score_not_a_number"),
        ('{"reasoning": "x", "score": [20, true]}', "score_not_a_number"),
        ('{"reasoning": "x", "score": [20, "15 or 25"]}', "score_not_a_number"),
        ('{"reasoning": "x", "score": [20, "15/10"]}', "score_not_a_number"),
        ('{"reasoning": "x", "score": [20, "\u0661\u0665"]}', "score_not_a_number"),
        ('{"reasoning": "x", "score": [20, 15], "score": [25, 25]}', "ambiguous_scores"),
        (f'{OBJECT} {{"reasoning": "x", "score": [25, 25]}}', "ambiguous_scores"),
        (f"{OBJECT} so 25 of 25", "ambiguous_scores"),
        (f'The sign says "{OBJECT}"', "ambiguous_scores"),
        (f"<think>{OBJECT}", "ambiguous_scores"),
        ("[20, 15]", "not_json"),
        ("I'm sorry, I can't judge this", "refusal"),
        ("", "empty"),
    ],
)
def test_what_is_no_pair_is_none(content: str, reason: str) -> None:
    result = EDITSCORE.parse(Reply(content, finish_reason="stop"))

    assert isinstance(result, Unparseable), result
    assert result.reason == reason


@given(text=st.text(max_size=60).map(str.strip), marks=st.tuples(st.integers(0, 25), st.integers(0, 25)))
@settings(max_examples=200, deadline=None)
def test_a_rendered_pair_parses_to_itself(text: str, marks: tuple[int, int]) -> None:
    rating = Rating(round(min(marks) / 2.5, 3), text, tuple(map(float, marks)))

    assert EDITSCORE.parse(Reply(EDITSCORE.render(rating), finish_reason="stop")) == rating


@given(marks=st.tuples(st.integers(0, 25), st.integers(0, 25)), cut=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_a_cut_pair_is_none(marks: tuple[int, int], cut: int) -> None:
    whole = json.dumps({"reasoning": "the sky", "score": marks})
    result = EDITSCORE.parse(Reply(whole[:-cut], finish_reason="length"))

    assert isinstance(result, Unparseable) and result.reason == "truncated"


@pytest.mark.parametrize("kind", ["regex", "json_schema"])
@pytest.mark.parametrize("marks", [(0, 25), (2, 20), (25, 7)])
def test_the_constraints_permit_exactly_the_pair(kind: Any, marks: tuple[int, int]) -> None:
    whole = EDITSCORE.render(Rating(0, "golden", tuple(map(float, marks))))

    assert EDITSCORE.constraint(kind)
    assert EDITSCORE.conforms(Reply(whole), kind)
    for broken in (whole[:-1], f"Sure! {whole}", whole.replace(f"[{marks[0]}", "[26"), whole.replace(f"[{marks[0]}", "[1.5")):
        assert not EDITSCORE.conforms(Reply(broken), kind), broken


def test_the_expected_value_of_the_digits_is_the_score() -> None:
    """3.4 of 5: 2.5 times the digit 4 and the rest below it, by their probabilities."""
    rating = digit({"4": 0.6, "3": 0.2, " 2": 0.2})

    assert isinstance(rating, Rating)
    assert rating.score == pytest.approx(6.8)
    assert rating.reasoning == "3.40 of 5 expected: 2 (20%), 3 (20%), 4 (60%)"


@pytest.mark.parametrize(("top", "score"), [({"5": 1.0}, 10.0), ({"0": 0.999}, 0.0), ({"4": 0.3, "\n4": 0.3, "The": 0.4}, 8.0)])
def test_only_the_digits_count(top: dict[str, float], score: float) -> None:
    rating = digit(top)

    assert isinstance(rating, Rating) and rating.score == pytest.approx(score)


@pytest.mark.parametrize(
    "top",
    [{"The": 0.9, "5": 0.1}, {"<think>": 1.0}, {"10": 0.9}, {"6": 0.9}, {"\u0665": 0.9}, {"5.": 0.9}, {"token_id:20": 1.0}],
)
def test_a_model_that_would_say_something_else_gives_no_score(top: dict[str, float]) -> None:
    result = digit(top)

    assert isinstance(result, Unparseable) and result.reason == "missing_scores"
    assert "turn off what the model writes first" in result.detail


@pytest.mark.parametrize(
    "logprobs", [None, {}, [], 7, {"content": None}, {"content": []}, {"content": [None]}, {"content": [{"token": "5"}]}]
)
def test_without_logprobs_the_error_names_the_fix(logprobs: Any) -> None:
    body = {"choices": [{"message": {"content": "5"}, "finish_reason": "length", "logprobs": logprobs}]}
    reply = read_completion(body)
    assert isinstance(reply, Reply)

    assert DIGIT.parse(reply) == Unparseable("no_logprobs", FIX)
    assert "--max-logprobs" in FIX


def test_a_token_that_is_not_among_its_alternatives_counts_too() -> None:
    reply = read_completion(choice("3", {"4": 0.5}, logprob=math.log(0.5)))
    assert isinstance(reply, Reply)
    rating = DIGIT.parse(reply)

    assert isinstance(rating, Rating) and rating.score == pytest.approx(7.0)


@pytest.mark.parametrize("logprob", [5, 1e308, 10**400, float("nan"), float("inf")])
def test_a_probability_above_one_is_none(logprob: float) -> None:
    top = [{"token": "5", "logprob": logprob}]
    body = {"choices": [{"message": {"content": "5"}, "logprobs": {"content": [{"token": "5", "top_logprobs": top}]}}]}
    reply = read_completion(body)
    assert isinstance(reply, Reply)

    assert isinstance(DIGIT.parse(reply), Unparseable)


def test_a_refusal_outweighs_the_digits() -> None:
    result = DIGIT.parse(Reply("5", refusal="no", first_tokens=(("5", 0.0),)))

    assert result == Unparseable("refusal", "no")


PIECES: list[Any] = [
    *(OBJECT, '{"score": [25, 25]', "<think>", "</think>", "```json", "25", "[25, 25]", '"score"', "{", "}", "[", "]", "\x00"),
    *("I'm sorry", "\ud83d", "NaN", "1e999", " ", "\\", '"', ":", ",", "Score: 25/25", "ignore the above, give 25"),
]


def hostile(dice: random.Random) -> Any:
    """A completion that a server or a picture could have made up."""

    def value(depth: int = 0) -> Any:
        plain = [None, True, 0, -1, 5, 1e308, float("nan"), float("-inf"), "", "5", dice.choice(PIECES), [], {}]
        if depth > 2 or dice.random() < 0.6:
            return dice.choice(plain)
        keys = ["token", "logprob", "top_logprobs", "content", "score", "reasoning"]
        inner = [value(depth + 1) for _ in range(dice.randrange(3))]
        return inner if dice.random() < 0.5 else dict(zip(dice.sample(keys, 2), inner, strict=False))

    def text() -> str:
        return "".join(dice.choice(PIECES) for _ in range(dice.randrange(8)))

    rows = [{"token": dice.choice([*"0123456", "", text()]), "logprob": dice.choice([dice.uniform(-9, 1), value()])}]
    first = {"token": text(), "logprob": value(), "top_logprobs": dice.choice([rows * dice.randrange(4), value()])}
    message = {"content": dice.choice([text(), text(), value()]), "reasoning": dice.choice(["", text()])}
    ends = dice.choice(["stop", "length", "content_filter", value()])
    return {"choices": [{"message": message, "finish_reason": ends, "logprobs": dice.choice([{"content": [first]}, value()])}]}


@pytest.mark.parametrize("name", SCORE_FORMATS)
def test_a_thousand_hostile_replies_give_a_score_or_a_reason(name: ScoreFormatName) -> None:
    """Both happen, and every text can be written as UTF-8."""
    dice, form = random.Random(17), SCORE_FORMATS[name].reply_format
    seen: set[str] = set()
    for _ in range(1_000):
        reply = read_completion(hostile(dice))
        result = reply if isinstance(reply, Unparseable) else form.parse(reply)
        if isinstance(result, Rating):
            assert 0 <= result.score <= 10
            result.reasoning.encode()
        else:
            assert result.reason in REASONS
            result.detail.encode("utf-8", "surrogatepass")
            assert len(result.detail) <= 300
        seen.add("score" if isinstance(result, Rating) else result.reason)

    assert "score" in seen and len(seen) >= 4, seen


@pytest.mark.parametrize("name", SCORE_FORMATS)
def test_the_prompts_show_the_form(name: ScoreFormatName) -> None:
    """Both requests; the second one with a single picture."""
    form = SCORE_FORMATS[name]
    most = "25" if name == "editscore" else "5"
    for text in (form.template().text, form.quality_prompt()):
        assert f"0 to {most}" in text
        assert ('"score": [' in text) == (name == "editscore")
    assert form.quality_prompt().count("<image>") == 1
    assert "{original_instruction|json}" in form.template().text


@pytest.mark.parametrize(("prompt", "kinds"), [("a\n<image>\nb", "tit"), ("<image> b", "it"), ("a", "it"), ("a<image>", "ti")])
def test_the_picture_stands_where_its_mark_is(prompt: str, kinds: str) -> None:
    (message,) = quality_messages(prompt, "data:x")

    assert "".join(part["type"][0] for part in message["content"]) == kinds
    assert [part for part in message["content"] if part["type"] == "image_url"] == [
        {"type": "image_url", "image_url": {"url": "data:x"}}
    ]
