"""Constraints: the request's fields, the replies they permit, and that each permitted reply can be parsed."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocol.critique.constraints import Constraint, FreeText, Repeated, Score, Shape, allows, regex
from services.protocol.critique.editscore import EDITSCORE
from services.protocol.critique.formats import FORMATS, MAX_REASON, QUESTIONS, STEP, FormatName, ReplyFormat
from services.protocol.critique.messages import Critique, Unparseable
from services.protocol.critique.pairs import PAIRWISE
from services.protocol.critique.questions import DEFAULT_QUESTIONS, MAX_QUESTION, Answer, Question
from services.protocol.critique.replies import MAX_REASONING, MAX_REFINED, Reply
from services.protocol.critique.scores import critique_of_answers
from services.protocol.rewriting import REWRITERS
from tests.unit.protocol.test_checklist import checklists, sentences, verdicts
from tests.unit.protocol.test_special_tokens import TOKENS

KINDS: Final[list[Constraint]] = ["regex", "json_schema"]
SAID: Final[list[tuple[str, Constraint]]] = [
    (name, kind) for name in [*FORMATS, "questions"] for kind in KINDS if (name, kind) != ("editthinker", "json_schema")
]

IN_JSON: Final[tuple[FormatName, ...]] = ("json_schema", "checklist")
FINE: Final[list[tuple[ReplyFormat[Any], str]]] = [
    (QUESTIONS, '{"change": ["Is it fine now?", "Is it warm now?"], "keep": ["Is the house kept?"]}'),
    (PAIRWISE, '{"reasoning": "fine", "winner": "A"}'),
    (EDITSCORE, '{"reasoning": "fine", "score": [20, 20]}'),
    (REWRITERS["template"].format, '{"instruction": "fine"}'),
    *((FORMATS[name].bind(), FORMATS[name].bind().render(Critique(8, 7, "fine", "fine"))) for name in IN_JSON),
]
"""Formats in JSON, and a reply in each."""


def form_of(name: str, questions: tuple[Question, ...] = ()) -> ReplyFormat[Any]:
    return QUESTIONS if name == "questions" else FORMATS[name].bind(questions)


def constraint(name: str, kind: Constraint, questions: tuple[Question, ...] = ()) -> dict[str, Any]:
    return dict(form_of(name, questions).constraint(kind))


def conforms(name: str, kind: Constraint, content: str, questions: tuple[Question, ...] = ()) -> bool:
    return form_of(name, questions).conforms(Reply(content), kind)


def plain(text: str) -> str:
    """A text without what the constraints forbid in JSON: what must be escaped, and what begins a special token."""
    return " ".join(re.sub(r'["\\<\[]', "'", text).split())


fitting = sentences(MAX_REASON).map(plain)
halves = st.integers(0, 20).map(lambda half: half * STEP)
tenths = st.integers(0, 100).map(lambda tenth: tenth / 10)


@st.composite
def replies(draw: st.DrawFn, name: str, kind: Constraint) -> tuple[str, tuple[Question, ...]]:
    """A reply as a thinker renders it, and the checklist it was asked for."""
    questions = tuple(Question(question.kind, plain(question.text)) for question in draw(checklists))
    if name == "questions":
        return QUESTIONS.render(questions), questions
    instruction = draw(fitting | st.none())
    if name == "checklist":
        answers = [Answer(n, question.kind, draw(verdicts), draw(fitting)) for n, question in enumerate(questions, start=1)]
        critique = critique_of_answers(answers, instruction, questions)
        assert isinstance(critique, Critique)
    else:
        scores = halves if kind == "json_schema" else tenths
        critique = Critique(draw(scores), draw(scores), draw(fitting), instruction)
    return form_of(name, questions).render(critique), questions


@pytest.mark.parametrize(("name", "kind"), SAID)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_rendered_reply_conforms(name: str, kind: Constraint, data: st.DataObject) -> None:
    """What the constraint forces a model to write is what we render, so constraint and parser agree."""
    content, questions = data.draw(replies(name, kind))

    assert conforms(name, kind, content, questions), content


@pytest.mark.parametrize(("name", "kind"), SAID)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_corrupted_reply_does_not(name: str, kind: Constraint, data: st.DataObject) -> None:
    """One character less at either end, a prefix, or a word around it: a server that lets these pass enforces nothing."""
    content, questions = data.draw(replies(name, kind))
    cut = data.draw(st.integers(0, len(content) - 1))

    for broken in (content[1:], content[:-1], content[:cut], f"Sure! {content}", f"{content}.", content + content):
        assert not conforms(name, kind, broken, questions), broken


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("editthinker", '"semantic": 8', '"semantic": 11'),
        ("editthinker", '"semantic": 8', '"semantic": -1'),
        ("editthinker", '"semantic": 8', '"semantic": 8.25'),
        ("editthinker", '"semantic": 8', '"semantic": "8"'),
        ("editthinker", "fine", "f<i>ne"),
        ("editthinker", "fine", "x" * (MAX_REASONING + 1)),
        ("editthinker", "warmer", "x" * (MAX_REFINED + 1)),
        ("editthinker", "fine", ""),
        ("json_schema", '"semantic": 8', '"semantic": 11'),
        ("json_schema", '"semantic": 8', '"semantic": -0.5'),
        ("json_schema", '"semantic": 8', '"semantic": 8.25'),
        ("json_schema", '"semantic": 8', '"semantic": "8"'),
        ("json_schema", '"semantic": 8', '"semantic": true'),
        ("json_schema", '"semantic": 8', '"semantic": NaN'),
        ("json_schema", '"semantic": 8', '"semantic": 8, "semantic": 8'),
        ("json_schema", '"semantic": 8, "quality": 7', '"quality": 7, "semantic": 8'),
        ("json_schema", "fine", "x" * (MAX_REASONING + 1)),
        ("json_schema", "warmer", "x" * (MAX_REFINED + 1)),
        ("json_schema", "fine", 'f"ine'),
        ("json_schema", "fine", "f\\xine"),
        ("json_schema", '"instruction"', '"more": 1, "instruction"'),
        ("checklist", '"n": 2', '"n": 3'),
        ("checklist", '"n": 1', '"n": true'),
        ("checklist", '"answer": "yes"', '"answer": "maybe"'),
        ("checklist", '"answer": "yes"', '"answer": ["yes"]'),
        ("checklist", '"answer": "yes"', '"answer": "yes", "score": 10'),
        ("checklist", "fine", "x" * (MAX_REASON + 1)),
        ("checklist", "warmer", "x" * (MAX_REFINED + 1)),
        ("questions", "sky", "x" * MAX_QUESTION),
        ("questions", '"change"', '"changes"'),
        ("questions", '"keep": ["', '"keep": ["Is the first one kept?", "Is the second one kept?", "Is the third?", "'),
    ],
)
def test_what_a_constraint_forbids(name: str, old: str, new: str) -> None:
    """Scores out of range or too fine, long texts, other keys, other numbers: each is refused by every kind."""
    good = {
        "questions": QUESTIONS.render([Question("change", "Is the sky orange?"), *DEFAULT_QUESTIONS]),
        **{key: form.bind().render(Critique(8, 7, "fine", "warmer")) for key, form in FORMATS.items()},
    }[name]
    assert old in good
    for kind in KINDS:
        if constraint(name, kind):
            assert conforms(name, kind, good), kind
            assert not conforms(name, kind, good.replace(old, new, 1)), kind


def shortened(pattern: str) -> str:
    """A pattern with short free texts, for drawing examples from it."""
    return re.sub(r"\{(\d),(\d{3,})\}", lambda match: f"{{{match.group(1)},12}}", pattern)


@pytest.mark.parametrize("name", [*FORMATS, "questions"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_reply_that_a_constraint_permits_is_parsed(name: str, data: st.DataObject) -> None:
    """Every string of the language parses: what could end a text early is not in it."""
    pattern = shortened(constraint(name, "regex")["structured_outputs"]["regex"])
    content = data.draw(st.from_regex(pattern, fullmatch=True))
    result = form_of(name).parse(Reply(content, finish_reason="stop"))

    if name == "questions" and isinstance(result, Unparseable):
        # The same question over and over, or blank ones, are not questions: a constraint cannot count different ones.
        texts = [" ".join(text.split()).casefold() for texts in json.loads(content).values() for text in texts]
        assert result.reason == "missing_questions" and len(set(texts)) < len(texts)
    else:
        assert isinstance(result, tuple if name == "questions" else Critique), content


@pytest.mark.parametrize("name", [*FORMATS, "questions"])
def test_every_free_text_is_bounded(name: str) -> None:
    """No star and no plus: a rambling model is led to its scores, within the characters that `longest` tells."""
    pattern = constraint(name, "regex")["structured_outputs"]["regex"]
    bare = re.sub(r"\\.|\[[^\]]*\]", "", pattern)
    bounds = [int(most) for _, most in re.findall(r"\{(\d+),(\d+)\}", bare)]

    assert "*" not in bare and "+" not in bare
    assert "(?" not in bare, "xgrammar knows plain groups only"
    assert max(bounds) <= max(MAX_REASONING, MAX_REFINED)
    assert sum(bounds) < form_of(name).longest() < 10_000


@pytest.mark.parametrize("name", [*FORMATS, "questions"])
def test_the_fields_are_those_of_the_server(name: str) -> None:
    """vLLM 0.32: one kind in `structured_outputs`, or an OpenAI `response_format`; `guided_*` would be ignored."""
    assert list(constraint(name, "regex")["structured_outputs"]) == ["regex"]
    if name != "editthinker":
        assert constraint(name, "json_schema")["response_format"]["type"] == "json_schema"
    assert constraint(name, "none") == {}


def test_a_constraint_that_does_not_apply_is_left_out() -> None:
    """A server is never sent a field that cannot describe the format; nothing then conforms or not."""
    assert constraint("editthinker", "json_schema") == {}
    assert conforms("editthinker", "json_schema", "anything")
    assert conforms("json_schema", "none", "")


def test_a_shape_is_a_regular_expression_of_plain_groups() -> None:
    """The notation, once by hand."""
    shape: Shape = ('{"a": "', FreeText("json", 1, 9), '", "b": ', Score(), Repeated(("x", FreeText("tagged", 0, 3)), ", ", 2, 5))

    blanks = "\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    text = rf'[^"\\<\[\x00-\x20\x7f-\x9f{blanks}][^"\\<\[\x00-\x1f]{{0,8}}'
    assert regex(shape) == rf'\{{"a": "{text}", "b": (10|[0-9](\.[0-9])?)x[^<]{{0,3}}(, x[^<]{{0,3}}){{1,4}}'


@pytest.mark.parametrize("token", TOKENS)
def test_no_special_token_is_json_text_to_a_constraint(token: str) -> None:
    """A server leaves it out of its reply, so that the constraint would have counted characters that do not arrive."""
    for form, content in FINE:
        assert form.conforms(Reply(content), "regex")
        assert not form.conforms(Reply(content.replace("fine", f"fine{token}")), "regex"), form.name


@given(blank=st.characters(categories=["Zs", "Zl", "Zp", "Cc"]))
def test_a_json_text_that_must_hold_a_character_holds_one_that_can_be_seen(blank: str) -> None:
    """Parsers strip white space, and control characters are not for an editor."""
    shape = (FreeText("json", 1, 9),)
    assert not allows(blank, "regex", shape, None)
    assert not allows(f"{blank}x", "regex", shape, None)
    assert allows(f"x{' ' * 8}", "regex", shape, None)
    assert allows(" ", "regex", (FreeText("json", 0, 9),), None)


def test_a_server_that_leaves_special_tokens_out_enforces_the_schema() -> None:
    """Under a JSON schema they count as text, and the reply is shorter than the schema asks for."""
    form = FORMATS["json_schema"].bind()
    assert form.conforms(Reply(form.render(Critique(3, 4, "", None))), "json_schema")


def test_a_schema_bounds_what_backends_enforce() -> None:
    """Scores are enumerated in steps that binary numbers hold exactly; numbers of questions are enumerated in their order."""
    schema = constraint("json_schema", "json_schema")["response_format"]["json_schema"]["schema"]
    scores = schema["properties"]["semantic"]["enum"]
    assert (min(scores), max(scores), len(scores)) == (0, 10, 21)
    assert all((2.0 * score).is_integer() for score in scores)
    assert list(schema["properties"]).index("reasoning") < list(schema["properties"]).index("semantic")

    answers = constraint("checklist", "json_schema")["response_format"]["json_schema"]["schema"]["properties"]["answers"]
    assert [row["properties"]["n"]["enum"] for row in answers["prefixItems"]] == [[n] for n in range(1, 8)]
    assert answers["minItems"] == answers["maxItems"] == 7 and answers["items"] is False


@given(content=st.text(max_size=60) | st.recursive(st.none() | st.floats() | st.text(max_size=5), st.lists).map(json.dumps))
@settings(max_examples=100, deadline=None)
def test_asking_whether_a_reply_conforms_never_raises(content: str) -> None:
    """Nor does any of it conform by accident."""
    for name, kind in SAID:
        assert not conforms(name, kind, content)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"reasoning": ' * 20_000, '{"answers": [' + "{" * 5_000, "9" * 10_000])
def test_a_deeply_nested_reply_does_not_conform(content: str) -> None:
    """Deep nesting and endless numbers are refused, not suffered."""
    assert not any(conforms(name, kind, content) for name, kind in SAID)


def test_replies_that_backends_permit_in_addition_conform() -> None:
    """Control characters in JSON strings, and the bytes of half a surrogate pair, which are counted as one character."""
    raw = '{"reasoning": "a\tb\x01", "semantic": 3, "quality": 4, "instruction": "x"}'
    assert FORMATS["json_schema"].bind().conforms(Reply(raw), "json_schema")
    score = '<score>{"semantic": 3, "quality": 4}</score>'
    longest = f"<think>{'a' * (MAX_REASONING - 1)}\ufffd\ufffd\ufffd</think>{score}<answer>x</answer>"
    assert FORMATS["editthinker"].bind().conforms(Reply(longest), "regex")
    assert not FORMATS["editthinker"].bind().conforms(Reply(longest.replace("\ufffd", "a")), "regex")
