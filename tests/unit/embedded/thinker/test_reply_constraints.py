"""The embedded thinker enforces constraints: the reply has the format that a request names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.embedded.thinker.app import Limits, create_app
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, QUESTIONS, FormatName, ReplyFormat
from services.protocol.critique.messages import (
    Critique,
    CritiqueRequest,
    QuestionsRequest,
    Unparseable,
    build,
    build_questions,
    repair_messages,
)
from services.protocol.critique.questions import DEFAULT_QUESTIONS, QUALITY_QUESTIONS, Question
from services.protocol.critique.replies import Reply, read_completion, read_completions
from tests.doubles.decoding import InProcessPool
from tests.unit.embedded.thinker.test_chat_server import CANDIDATE, QUESTION, SOURCE, post

KINDS: list[Constraint] = ["none", "regex", "json_schema"]
NAMES: list[FormatName] = ["editthinker", "json_schema", "checklist"]
OWN = (Question("change", "Is it golden?"), Question("keep", 'Is the "boat" \\ there?'), *QUALITY_QUESTIONS)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Limits(), decoder=InProcessPool()), "http://localhost") as opened:
        yield opened


def request_fields(
    name: str, instruction: str = "golden hour", questions: tuple[Question, ...] = (), **fields: Any
) -> dict[str, Any]:
    if name == "questions":
        messages = build_questions(QuestionsRequest(SOURCE, instruction), FORMATS["checklist"].template())
    else:
        messages = build(CritiqueRequest(SOURCE, CANDIDATE, instruction, instruction, questions), FORMATS[name].template())
    return {"model": "rules", "messages": messages, **fields}


def reply_to(client: TestClient, fields: dict[str, Any]) -> Reply:
    answer = post(client, fields)
    assert answer.status_code == 200, answer.text
    reply = read_completion(answer.json())
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("instruction", ["golden hour", 'put a <hat> & "wings" \\ on\n\x07 the man' * 40, "日本", "hat " * 3000])
def test_a_critique_conforms(client: TestClient, name: FormatName, kind: Constraint, instruction: str) -> None:
    """In every format, by every constraint, for any instruction; and the protocol's parser reads it."""
    for questions in ((), OWN) if name == "checklist" else ((),):
        form = FORMATS[name].bind(questions)
        reply = reply_to(client, request_fields(name, instruction, questions, **form.constraint(kind)))
        critique = form.parse(reply)

        assert isinstance(critique, Critique), critique
        assert form.conforms(reply, kind), reply.content
        assert len(critique.answers) == (len(questions or DEFAULT_QUESTIONS) if name == "checklist" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instruction", ["golden hour", 'add the text "<b>\\"', "", "hat " * 3000])
def test_questions_conform(client: TestClient, kind: Constraint, instruction: str) -> None:
    """The other request of a session: one picture and an instruction in, a checklist out."""
    reply = reply_to(client, request_fields("questions", instruction, **QUESTIONS.constraint(kind)))
    questions = QUESTIONS.parse(reply)

    assert QUESTIONS.conforms(reply, kind), reply.content
    assert not isinstance(questions, Unparseable)
    critique = FORMATS["checklist"].bind(questions).parse(reply_to(client, request_fields("checklist", instruction, questions)))
    assert isinstance(critique, Critique)
    assert not any("all I measured" in answer.reason for answer in critique.answers), "it knows its own questions"


def test_scores_step_down_under_a_schema(client: TestClient) -> None:
    """A schema allows halves; scores are rounded down."""
    form = FORMATS["json_schema"].bind()
    free = form.parse(reply_to(client, request_fields("json_schema")))
    constrained = form.parse(reply_to(client, request_fields("json_schema", **form.constraint("json_schema"))))

    assert isinstance(free, Critique) and isinstance(constrained, Critique)
    assert free.semantic - 0.5 < constrained.semantic <= free.semantic
    assert (constrained.semantic * 2).is_integer()


@pytest.mark.parametrize("name", ["json_schema", "checklist", "questions"])
def test_a_schema_may_come_as_structured_outputs_too(client: TestClient, name: str) -> None:
    """vLLM accepts an object or its text, with options next to it."""
    form: ReplyFormat[Any] = QUESTIONS if name == "questions" else FORMATS[name].bind()
    schema = form.constraint("json_schema")["response_format"]["json_schema"]["schema"]
    outputs: list[dict[str, Any]] = [
        {"json": schema, "disable_any_whitespace": True, "regex": None},
        {"json": json.dumps(schema)},
        {"json_object": True},
    ]
    for output in outputs:
        assert form.conforms(reply_to(client, request_fields(name, structured_outputs=output)), "json_schema")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"structured_outputs": {"regex": "a|b"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "<think>.*</think><score>.*</score><answer>.*</answer>"}}, "structured_outputs"),
        ({"structured_outputs": {"grammar": 'root ::= "yes"'}}, "structured_outputs"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "structured_outputs"),
        ({"structured_outputs": {"lark": "start: x"}}, "structured_outputs"),
        ({"structured_outputs": {"text": "x"}}, "structured_outputs"),
        ({"structured_outputs": {"json": {"required": ["mood"]}}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs"),
        ({"response_format": {"type": "structural_tag", "format": {"type": "any_text"}}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
    ],
)
@pytest.mark.parametrize("name", ["editthinker", "checklist", "questions"])
def test_a_foreign_format_is_rejected_by_name(client: TestClient, name: str, fields: dict[str, Any], field: str) -> None:
    """A constraint that cannot be satisfied is rejected rather than ignored."""
    answer = post(client, request_fields(name, **fields))

    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("unsupported_parameter", field)


def test_two_constraints_at_once_are_rejected(client: TestClient) -> None:
    """As vLLM does."""
    both = {**FORMATS["editthinker"].bind().constraint("regex")["structured_outputs"], "json": {}}
    answer = post(client, request_fields("editthinker", structured_outputs=both))

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_the_constraint_of_other_questions_is_rejected(client: TestClient) -> None:
    """The constraint is for nine questions, the prompt has seven."""
    constraint = FORMATS["checklist"].bind((*OWN, *OWN)).constraint("regex")

    assert post(client, request_fields("checklist", "x", OWN, **constraint)).status_code == 400


def test_the_constraint_takes_precedence_over_the_prompt(client: TestClient) -> None:
    """The reply satisfies the constraint even when the prompt describes another format."""
    for name in NAMES:
        reply = reply_to(client, request_fields("editthinker", **FORMATS[name].bind().constraint("regex")))
        assert isinstance(FORMATS[name].bind().parse(reply), Critique)


def test_all_choices_are_equal_and_counted(client: TestClient) -> None:
    """The thinker is deterministic, and usage reports no cached tokens."""
    body = post(client, request_fields("checklist", n=3)).json()
    replies = read_completions(body, 3)

    assert len(replies) == 3 and len(set(replies)) == 1
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert body["usage"]["completion_tokens"] % 3 == 0


@pytest.mark.parametrize("name", [*NAMES, "questions"])
def test_a_repair_is_answered_as_the_first_request(client: TestClient, name: str) -> None:
    """A repair request gets a valid reply, although this thinker's first reply is always valid."""
    fields = request_fields(name)
    form: ReplyFormat[Any] = QUESTIONS if name == "questions" else FORMATS[name].bind()
    again = repair_messages(fields["messages"], "hm", Unparseable("not_json"), form.form())

    assert reply_to(client, {**fields, "messages": again}) == reply_to(client, fields)


def test_a_picture_with_other_text_is_rejected(client: TestClient) -> None:
    """The error names what both the critique parser and the questions parser miss."""
    fields = request_fields("questions")
    fields["messages"][0]["content"].append({"type": "text", "text": "And now?"})
    error = post(client, fields).json()["error"]

    assert (error["code"], error["param"]) == ("invalid_value", "messages")
    assert QUESTION.instruction not in error["message"]
