"""Requests with references, an area that may change, and what strayed from it: the thinker is told which picture is which."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocol.critique.messages import (
    CritiqueRequest,
    Judgement,
    Picture,
    QuestionsRequest,
    Strayed,
    UnreadableRequestError,
    build,
    build_questions,
    messages,
    questions_messages,
    read,
    read_questions,
)
from services.protocol.critique.prompts import Template
from services.protocol.critique.questions import Question
from services.protocol.critique.special_tokens import without_tokens
from tests.unit.protocol.test_critique import MARKED, RAW, a_request, pictures, texts

TEMPLATES = {name: Template.named(name) for name in ("editthinker", "json_schema", "checklist")} | {"raw": RAW, "marked": MARKED}
QUESTIONS = (Question("change", "Is it warm?"), Question("keep", "Is the cat there?"))
ONE_PICTURE = {
    "editthinker": "514c63425ca1be23f6e8544d0c0337dccefd1e32a5cbbd98571075b6ece13e9b",
    "json_schema": "b410f9c9625744f60b5146caa4c0afe027866e5a90f2af461ee26459ac588cec",
    "checklist": "530b51ce51f53cc645b9b2fe8b5fc8b5f843cae26114272c21701270214b0def",
    "unmarked": "1fb84dca9c1203c4e1ac319735116c51b4d02cc1f999a5a49db375b07ff60ea1",
}
"""Digests of the prompts before there were references (commit d44cebc)."""
measured = st.builds(
    lambda changed, difference: Strayed(changed / 1000, difference / 10), st.integers(0, 1000), st.integers(0, 2550)
)
judgements = st.builds(
    lambda semantic, quality, reasoning: Judgement(semantic / 10, quality / 10, without_tokens(reasoning)),
    st.integers(0, 100),
    st.integers(0, 100),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)


@pytest.mark.parametrize("name", ONE_PICTURE)
def test_with_one_picture_the_prompt_is_byte_for_byte_what_it_was(name: str) -> None:
    """Prefix caches stay valid over an upgrade, and what was measured with these prompts stays true."""
    template = TEMPLATES.get(name) or Template("Judge {original_instruction} made with {rewritten_prompt}")
    critique = messages("make it <warm>", 'warmer "now"', template, urls=("U1", "U2"), questions=QUESTIONS)
    made = [critique, questions_messages("make it <warm>", template, urls=["U1"])]

    assert hashlib.sha256(json.dumps(made).encode()).hexdigest() == ONE_PICTURE[name]


@pytest.mark.parametrize("name", ["editthinker", "json_schema", "checklist"])
@given(
    source=pictures,
    candidate=pictures,
    references=st.lists(pictures, max_size=5),
    area=st.none() | pictures,
    strayed=st.none() | measured,
    prompt_tokens=st.none() | st.integers(1, 100_000),
    judgement=st.none() | judgements,
    instruction=texts,
)
@settings(max_examples=60, deadline=None)
def test_any_pictures_read_back(
    name: str,
    source: Picture,
    candidate: Picture,
    references: list[Picture],
    area: Picture | None,
    strayed: Strayed | None,
    prompt_tokens: int | None,
    judgement: Judgement | None,
    instruction: str,
) -> None:
    """Critique and checklist, for any text of the caller."""
    questions = QUESTIONS if name == "checklist" else ()
    request = CritiqueRequest(
        source, candidate, instruction, "warmer", questions, tuple(references), area, strayed if area else None, prompt_tokens
    )
    request = replace(request, judgement=judgement)
    asked = QuestionsRequest(source, instruction, tuple(references), area)

    assert read(orjson.loads(orjson.dumps(build(request, TEMPLATES[name]))), TEMPLATES.values()) == request
    assert read_questions(orjson.loads(orjson.dumps(build_questions(asked, TEMPLATES[name]))), [TEMPLATES[name]]) == asked


def content(request: CritiqueRequest, template: Template) -> list[dict[str, Any]]:
    (message,) = build(request, template)
    found: list[dict[str, Any]] = message["content"]
    return found


def full(shade: bytes = b"1", **changes: Any) -> CritiqueRequest:
    more = [a_request(shade=letter).candidate for letter in (b"r2", b"r3", b"area")]
    request = replace(a_request(shade=shade), references=(more[0], more[1]), area=more[2], strayed=Strayed(0.0312, 4.25))
    return replace(request, **changes)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_picture_stands_after_a_text_that_says_what_it_is(name: str) -> None:
    """Also with an operator's own template, with or without marks."""
    parts = content(full(), TEMPLATES[name])
    before = [parts[place - 1].get("text", "") for place, part in enumerate(parts) if part["type"] == "image_url"]

    assert [part["type"] for part in parts] == ["text", "image_url"] * 5 + ["text"]
    assert before[1].startswith("Picture 2, a reference") and before[2].startswith("Picture 3, a reference")
    assert before[3].startswith("Where the picture may change")
    assert parts[-1]["text"].startswith(
        "Measured, not seen: of what must stay as it is, 3.1 % changed visibly (mean difference 4.2"
    )
    if name != "marked":
        assert before[0].endswith("The source picture:") and before[4].endswith("The edited picture:")


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_the_same_in_every_turn_comes_first(name: str) -> None:
    """The source, its references, the area and the caller's instruction: a prefix cache computes them once."""
    first = json.dumps(content(full(), TEMPLATES[name]))
    second = json.dumps(content(full(b"2", turn_instruction="a low sun", strayed=None), TEMPLATES[name]))
    shared = next(place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    pieces = first[:shared].count("image_url")

    assert pieces // 2 == 5  # in the last of them, which is the candidate, they differ
    if name != "raw":
        assert "make it golden" in first[:shared]


def test_the_checklists_request_shares_that_prefix() -> None:
    template = TEMPLATES["checklist"]
    request = full()
    asked = QuestionsRequest(request.source, request.instruction, request.references, request.area)
    critique, questions = content(request, template), build_questions(asked, template)[0]["content"]

    assert questions[1:-1] == critique[1:8]
    assert critique[8]["text"].startswith(questions[8]["text"].partition("\n")[0])


@pytest.mark.parametrize("place", [2, 4, 6])
def test_pictures_under_other_headings_are_not_guessed_at(place: int) -> None:
    sent = build(full(), TEMPLATES["editthinker"])
    sent[0]["content"][place]["text"] = "Another picture:"
    with pytest.raises(UnreadableRequestError):
        read(sent, TEMPLATES.values())
