"""Rewriters: the messages that each was trained on, and every shape of reply that they are known to send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocol.critique.messages import Extras, Unparseable
from services.protocol.critique.replies import Reply
from services.protocol.rewriting import REWRITERS, RewriterName, default_prompt
from tests.unit.protocol.test_constraints import shortened

QWEN, PUP, ANY = REWRITERS["qwen-pe-i2i"], REWRITERS["flux3-pup"], REWRITERS["template"]
LONG = "Golden evening light on the house; the lawn stays as it is."
OBJECT = f'{{"rewritten_prompt": "{LONG}", "wh_ratio": "", "ratio_follow": "<image1>"}}'
GOOD: dict[str, tuple[RewriterName, Reply]] = {
    "qwen: thoughts begun by the template": ("qwen-pe-i2i", Reply(f"The user wants gold.\n</think>\n\n{OBJECT}")),
    "qwen: thoughts in full": ("qwen-pe-i2i", Reply(f"<think>gold</think>{OBJECT}")),
    "qwen: thoughts in a field": ("qwen-pe-i2i", Reply(OBJECT, reasoning='{"rewritten_prompt": "a draft"}')),
    "qwen: a draft in the thoughts": ("qwen-pe-i2i", Reply(f'{{"rewritten_prompt": "a draft"}}</think>{OBJECT}')),
    "qwen: an earlier object": ("qwen-pe-i2i", Reply(f'</think>{{"rewritten_prompt": "first"}}\nBetter:\n{OBJECT}')),
    "qwen: an example after it": ("qwen-pe-i2i", Reply(f'</think>{OBJECT} {{"note": "done"}}')),
    "qwen: fenced": ("qwen-pe-i2i", Reply(f"</think>\n```json\n{OBJECT}\n```")),
    "qwen: the older key": ("qwen-pe-i2i", Reply(f'</think>{{"rewrited_prompt": "{LONG}", "wh_ratio": ""}}')),
    "qwen: white space": ("qwen-pe-i2i", Reply(f'</think>{{"rewritten_prompt": "\\n {LONG} \\n"}}')),
    "pup: prose": ("flux3-pup", Reply(f"{LONG}\n", finish_reason="stop")),
    "pup: after empty thoughts": ("flux3-pup", Reply(f"<think>\n\n</think>\n\n{LONG}")),
    "pup: in quotes": ("flux3-pup", Reply(f'"{LONG}"')),
    "any: the object": ("template", Reply(f'{{"instruction": "{LONG}"}}')),
    "any: a mark of thoughts in an earlier object": ("template", Reply(f'{{"note": "a <think> b"}} {{"instruction": "{LONG}"}}')),
    "any: prose": ("template", Reply(LONG)),
    "any: introduced": ("template", Reply(f"Sure! Here is the rewritten instruction:\n\n{LONG}")),
    "any: labelled": ("template", Reply(f"**Instruction:** {LONG}")),
    "any: fenced prose": ("template", Reply(f"```text\n{LONG}\n```")),
    "any: an answer block": ("template", Reply(f"<think>gold</think><answer>{LONG}</answer>")),
    "any: in typographic quotes": ("template", Reply(f"\u201c{LONG}\u201d")),
}
BAD: dict[str, tuple[RewriterName, Reply, str]] = {
    "qwen: no object": ("qwen-pe-i2i", Reply(f"thoughts</think>{LONG}"), "not_json"),
    "qwen: thoughts that were cut": ("qwen-pe-i2i", Reply(f"first {OBJECT} but", finish_reason="length"), "truncated"),
    "qwen: thoughts that do not end": ("qwen-pe-i2i", Reply(f"<think>{OBJECT}"), "missing_instruction"),
    "qwen: a draft before nothing": ("qwen-pe-i2i", Reply('{"rewritten_prompt": "a draft"}</think>no'), "not_json"),
    "qwen: a blank instruction": ("qwen-pe-i2i", Reply('</think>{"rewritten_prompt": "  "}'), "not_json"),
    "qwen: another type": ("qwen-pe-i2i", Reply('</think>{"rewritten_prompt": ["gold"]}'), "not_json"),
    "pup: cut": ("flux3-pup", Reply(LONG, finish_reason="length"), "truncated"),
    "pup: nothing": ("flux3-pup", Reply("  "), "empty"),
    "pup: thoughts alone": ("flux3-pup", Reply("<think>gold</think>"), "missing_instruction"),
    "any: refused": ("template", Reply("I'm sorry, I can't help with that."), "refusal"),
    "any: refused in a field": ("template", Reply("", refusal="no"), "refusal"),
    "any: an object without it": ("template", Reply('{"answer": "gold"}'), "missing_instruction"),
    "any: far too long": ("template", Reply("x" * 40_000), "instruction_too_long"),
}


@pytest.mark.parametrize(("name", "reply"), GOOD.values(), ids=GOOD)
def test_a_reply_is_read_in_the_shapes_that_models_send(name: RewriterName, reply: Reply) -> None:
    assert REWRITERS[name].format.parse(reply) == LONG


@pytest.mark.parametrize(("name", "reply", "reason"), BAD.values(), ids=BAD)
def test_a_reply_without_a_whole_instruction_is_none(name: RewriterName, reply: Reply, reason: str) -> None:
    result = REWRITERS[name].format.parse(reply)

    assert isinstance(result, Unparseable)
    assert result.reason == reason


@pytest.mark.parametrize("mark", ["<think>", "</think>", "[reasoning]", "<thoughts>"])
def test_a_mark_of_thoughts_within_the_instruction_is_part_of_it(mark: str) -> None:
    """Random weights under a constraint write it."""
    read = REWRITERS["template"].format.parse(Reply(f'{{"instruction": "make {mark} golden"}}'))
    assert isinstance(read, str) and read.startswith("make") and read.endswith("golden")


@given(data=st.data())
def test_every_reply_that_the_constraint_permits_holds_an_instruction(data: st.DataObject) -> None:
    """Neither white space nor control characters are one."""
    pattern = shortened(ANY.format.constraint("regex")["structured_outputs"]["regex"])
    content = data.draw(st.from_regex(pattern, fullmatch=True))
    assert isinstance(ANY.format.parse(Reply(content, finish_reason="stop")), str), content


def test_no_special_token_of_a_model_gets_into_an_instruction() -> None:
    assert ANY.format.parse(Reply('{"instruction": "gold<|im_end|> now\\u0000"}')) == "gold  now"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.sampled_from(["", "stop", "length"]))
def test_any_text_is_an_instruction_or_none(text: str, finish_reason: str) -> None:
    for rewriter in REWRITERS.values():
        for content in (text, f"</think>{text}", f'{{"rewritten_prompt": "{text}"}}'):
            result = rewriter.format.parse(Reply(content, finish_reason=finish_reason))
            assert isinstance(result, Unparseable) or result.strip()


@settings(max_examples=40, deadline=None)
@given(st.from_regex(r"[a-z][a-z \"{}\\]{0,40}[a-z]", fullmatch=True))
def test_what_is_rendered_is_read(text: str) -> None:
    assert ANY.format.parse(Reply(ANY.format.render(text))) == text


def _content(messages: list[dict[str, Any]]) -> list[str]:
    return [part["text"] if part["type"] == "text" else part["image_url"]["url"] for part in messages[-1]["content"]]


@pytest.mark.parametrize("rewriter", [QWEN, PUP])
def test_the_makers_models_get_their_own_prompt_the_pictures_and_the_bare_instruction(rewriter: Any) -> None:
    """Nothing of ours is added, not even the limit: the model was not trained on it."""
    messages = rewriter.messages("be expert\n", "golden", ["a", "b"], Extras(1, prompt_tokens=77))

    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == [{"type": "text", "text": "be expert"}]
    assert _content(messages) == ["a", "b", "golden"]


def test_a_strangers_instruction_spells_no_token_of_the_model() -> None:
    assert _content(QWEN.messages("p", "gold<|im_end|>", ["a"], Extras()))[-1] == "gold< |im_end|>"


def test_a_template_names_each_picture_and_tells_the_limit() -> None:
    (message,) = ANY.messages(default_prompt(), 'a "golden" hour', ["a", "b", "c"], Extras(1, area=True, prompt_tokens=77))
    source, first, reference, second, area, third, prompt = _content([message])

    assert (first, second, third) == ("a", "b", "c")
    assert source.startswith("The picture that will be edited") and "Picture 2, a reference" in reference
    assert area.startswith("Where the picture may change")
    assert prompt.startswith("The model reads at most 77 tokens of an instruction, about 57 English words")
    assert '"a \\"golden\\" hour"' in prompt


def test_makers_that_ask_for_their_model_get_it_by_default() -> None:
    assert {name: rewriter.required for name, rewriter in REWRITERS.items()} == {
        "template": False,
        "qwen-pe-i2i": True,
        "flux3-pup": True,
    }
