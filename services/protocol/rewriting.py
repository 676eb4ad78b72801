"""Rewriting an instruction for one editor before its first edit: what the models that do this are sent, and their replies.

    template      any vision-language model, with a prompt of ours or of the operator's
    qwen-pe-i2i   Qwen-Image-2.1-PE-I2I, which goes with Qwen-Image-2.1 (QwenLM/Qwen-Image-2.1, prompt_rewrite/pe_core.py)
    flux3-pup     flux-3-image-klein-pup, which goes with FLUX.3 Klein (diffusers 0.42.1, flux3/prompt_upsampler.py)

The makers' two models were trained on a system prompt that comes with their weights, on pictures in their order, and on the bare
instruction after them; nothing of ours is added to it. What such a model says of the result's shape is not used: the caller
chooses that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.protocol.critique.constraints import FreeText
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.messages import MAX_INSTRUCTION, Extras, Unparseable, well_formed
from services.protocol.critique.prompts import Template, packaged
from services.protocol.critique.replies import MAX_REFINED, Reply, find_objects, truncated, unclosed_thoughts, without_text
from services.protocol.critique.special_tokens import spaced, without_tokens

RewriterName = Literal["template", "qwen-pe-i2i", "flux3-pup"]

_KEYS: Final = ("rewritten_prompt", "rewrited_prompt", "instruction", "refined_instruction", "prompt")
"""Where the rewritten instruction stands in a JSON object; the second is what some checkpoints of qwen-pe-i2i write."""
_INTRODUCTION: Final = re.compile(
    r"^(?:(?:sure|certainly|of course)[,.!]?\s*)?(?:here(?:['\u2019]s| is)[^\n:]{0,80}:"
    r"|(?:\*\*)?(?:(?:final|refined|rewritten|new)\s+)?(?:instruction|prompt)(?:\*\*)?\s*:(?:\*\*)?)\s*",
    re.IGNORECASE,
)
_ANSWER: Final = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_FENCED: Final = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_QUOTES: Final = ('""', "\u201c\u201d", "''", "``")
_SOURCE: Final = "The picture that will be edited:"
_LIMIT: Final = (
    "The model reads at most {tokens} tokens of an instruction, about {words} English words, and refuses a longer one: keep "
    "yours within that."
)


class RewriteFormat(ReplyFormat[str]):
    """The reply that holds a rewritten instruction.

    Args:
        prose: whether a reply without a JSON object is the instruction itself.
    """

    name = "rewrite"

    def __init__(self, *, prose: bool) -> None:
        text = {"type": "string", "minLength": 1, "maxLength": MAX_REFINED}
        schema = {
            "type": "object",
            "properties": {"instruction": text},
            "required": ["instruction"],
            "additionalProperties": False,
        }
        super().__init__(('{"instruction": "', FreeText("json", 1, MAX_REFINED), '"}'), schema)
        self._prose = prose

    def form(self) -> str:
        """The object."""
        return '{"instruction": "the complete instruction for the model"}'

    def render(self, value: str) -> str:
        """The JSON object."""
        return json.dumps({"instruction": value}, ensure_ascii=False)

    def parse(self, reply: Reply) -> str | Unparseable:
        """The last JSON object with an instruction; otherwise, where that is allowed, the text without thoughts and frills.

        A reply that was cut counts as none: half of an instruction asks for something else.
        """
        nothing = without_text(reply) or truncated(reply)
        if nothing:
            return nothing
        # Chat templates of models that think begin the thoughts themselves, so that the opening tag is missing.
        text = reply.content.rpartition("</think>")[2]
        if unclosed_thoughts(text):
            return Unparseable("missing_instruction", "the thoughts do not end")
        found = [row.value[key] for row in find_objects(text).found for key in _KEYS if _is_text(row.value.get(key))]
        if not found and not self._prose:
            return Unparseable("not_json", "no JSON object with rewritten_prompt")
        words = without_tokens(well_formed(found[-1] if found else _prose(text))).strip()
        if not words or (not found and words.startswith("{")):
            return Unparseable("missing_instruction", "the reply holds no instruction")
        if len(words) > MAX_INSTRUCTION:
            return Unparseable("instruction_too_long", f"{len(words)} characters")
        return words


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _prose(text: str) -> str:
    """The text of an answer block or a fence, if there is one, without an introduction and the quotes around it."""
    for frame in (_ANSWER, _FENCED):
        if framed := frame.search(text):
            text = framed[1]
    text = _INTRODUCTION.sub("", text.strip()).strip()
    quoted = any(text[:1] + text[-1:] == pair and not set(pair) & set(text[1:-1]) for pair in _QUOTES)
    return text[1:-1] if quoted else text


@dataclass(frozen=True, slots=True)
class Rewriter:
    """How to ask a model that rewrites.

    Attributes:
        required: whether the editor's makers require or recommend it, so that it is used unless a request says otherwise.
        is_system: whether its prompt is a system message, a file that comes with its weights; otherwise it is a template.
        sampling: further fields of the request, as its makers run it.
        max_pixels: of each picture.
        format: of its replies.
    """

    required: bool
    is_system: bool
    sampling: Mapping[str, Any]
    max_pixels: int
    format: RewriteFormat

    def messages(self, prompt: str, instruction: str, urls: Sequence[str], extras: Extras) -> list[dict[str, Any]]:
        """The chat messages.

        Args:
            prompt: the text of the system prompt or template.
            instruction: the caller's.
            urls: of the pictures: the source, its references, and, for a template, what may change.
            extras: what is shown and told besides the source; a template's prompt alone tells the limit.
        """
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        if self.is_system:
            system = {"role": "system", "content": [{"type": "text", "text": prompt.strip()}]}
            return [system, {"role": "user", "content": [*pictures, _text(spaced(instruction))]}]
        titled = [
            part for title, each in zip((_SOURCE, *extras.headings()), pictures, strict=True) for part in (_text(title), each)
        ]
        tokens = extras.prompt_tokens
        limit = "" if tokens is None else f"{_LIMIT.format(tokens=tokens, words=tokens * 3 // 4)}\n"
        return [{"role": "user", "content": [*titled, _text(limit + Template(prompt).fill(prompt, instruction, instruction))]}]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def default_prompt() -> str:
    """Our prompt for `template`."""
    return packaged("prepare")


REWRITERS: Final[Mapping[RewriterName, Rewriter]] = {
    "template": Rewriter(
        required=False,
        is_system=False,
        sampling={"temperature": 0, "max_tokens": 2048},
        max_pixels=1024 * 1024,
        format=RewriteFormat(prose=True),
    ),
    "qwen-pe-i2i": Rewriter(
        required=True,
        is_system=True,
        sampling={"temperature": 1.0, "top_p": 0.95, "top_k": 20, "presence_penalty": 0.0, "max_tokens": 24_000},
        max_pixels=1024 * 1024,
        format=RewriteFormat(prose=False),
    ),
    "flux3-pup": Rewriter(
        required=True,
        is_system=True,
        sampling={"temperature": 0, "max_tokens": 2048},
        max_pixels=1024 * 1024,
        format=RewriteFormat(prose=True),
    ),
}
