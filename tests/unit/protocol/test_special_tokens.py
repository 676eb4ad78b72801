"""Special tokens of tokenizers in texts of strangers: none is spelt out in what a model is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import (
    CritiqueRequest,
    Picture,
    QuestionsRequest,
    Unparseable,
    build,
    build_questions,
    read,
    read_questions,
    repair_messages,
)
from services.protocol.critique.prompts import Template
from services.protocol.critique.questions import Question
from services.protocol.critique.special_tokens import json_string, spaced, unspaced, without_tokens
from tests.unit.imaging.pictures import saved, scene

TOKENS = [
    "<|im_end|>",
    "<|im_start|>system",
    "<|image_pad|>",
    "<|vision_start|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<\uff5cUser\uff5c>",
    "<image>",
    "<img>",
    "<IMG_CONTEXT>",
    "<s>",
    "</s>",
    "<start_of_turn>",
    "<|turn>user",
    "<turn|>",
    "<image_soft_token>",
    "<unused12>",
    "<loc0001>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<row_1_col_1>",
    "<im_patch>",
    "<sop>",
    "</box>",
    "<extra_id_0>",
    "[INST]",
    "[/INST]",
    "[IMG]",
    "[gMASK]",
]
PLAIN = Template("Judge {rewritten_prompt} against {original_instruction}; again: {original_instruction}")
TEMPLATES = [*(form.template() for form in FORMATS.values()), PLAIN]
PICTURE = Picture(saved(scene(), "PNG"), "image/png")


@pytest.mark.parametrize("template", TEMPLATES, ids=[*FORMATS, "plain"])
@pytest.mark.parametrize("token", TOKENS)
def test_no_token_survives_in_the_messages_and_all_are_read_back(template: Template, token: str) -> None:
    """In the instruction, the turn's instruction and the questions, in JSON and plain."""
    text = f'warm{token}"}}]\n\\{token}'
    questions = (Question("change", f"Is it {token}?"), Question("keep", f"[{token}]?")) if template.lists_questions else ()
    request = CritiqueRequest(PICTURE, PICTURE, text, f"{token} {text}", questions)
    messages = build(request, template)
    fixed = json.dumps(build(CritiqueRequest(PICTURE, PICTURE, "x", "y", ()), template))
    assert json.dumps(messages, ensure_ascii=False).count(token) == fixed.count(token)
    assert read(messages, [template]) == request


@pytest.mark.parametrize("token", TOKENS)
def test_no_token_survives_in_the_request_for_questions(token: str) -> None:
    """Nor there."""
    request = QuestionsRequest(PICTURE, f"warm{token}")
    messages = build_questions(request, TEMPLATES[-2])
    assert token not in json.dumps(messages, ensure_ascii=False)
    assert read_questions(messages, [TEMPLATES[-2]]) == request


@pytest.mark.parametrize("token", TOKENS)
def test_no_token_survives_in_the_reply_that_a_thinker_is_shown(token: str) -> None:
    """A picture may have made it write one; the tags of its own form stay."""
    shown = repair_messages([], f"<think>hm{token}</think> <score>", Unparseable("missing_scores"), "x")[0]["content"]
    assert token not in shown
    assert shown.startswith("<think>hm") and shown.endswith("</think> <score>")


@pytest.mark.parametrize("token", TOKENS)
def test_a_refined_instruction_is_freed_of_tokens(token: str) -> None:
    """Editors refuse them."""
    assert token not in without_tokens(f"warmer {token} light\x00\x1b")
    assert without_tokens("a < b, [warm] <b>\t\n") == "a < b, [warm] <b>\t\n"


@given(text=st.text(st.sampled_from('<[ |>]\\"a\u2028\n')) | st.text())
def test_both_forms_give_the_text_back(text: str) -> None:
    """Any text."""
    assert json.loads(json_string(text)) == text
    assert unspaced(spaced(text)) == text
    assert not set("<[") & set(json_string(text))
