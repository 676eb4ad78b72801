"""Texts of strangers in a model's prompt: no special token of its tokenizer survives in them.

A server's chat template and tokenizer read ``<|im_end|>``, ``<image>`` or ``[INST]`` in a message as the tokens that they
spell, wherever they stand: they end turns, begin others and take the places of pictures. Every such token begins with ``<`` or
``[`` (the tokenizers of Qwen, Llama, Mistral, Gemma, Phi, InternVL, GLM, DeepSeek and T5 were looked at on 2026-11-30).

    json_string     a JSON string, with both written as escapes
    spaced          plain text, with a space after each; `unspaced` is the inverse
    without_tokens  plain text, with what looks like such a token removed
"""

from __future__ import annotations

import json
import re
from typing import Final

_OPENING: Final = re.compile(r"[<\[]")
_SPACED: Final = re.compile(r"([<\[]) ")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, but for tab and line feed."""
_TOKEN: Final = re.compile(
    r"<[|\uff5c][^<>\n]{1,64}>|<[^<>\n]{1,64}[|\uff5c]>"
    r"|</?(?:s|pad|unk|bos|eos|cls|sep|mask|image|img|video|audio|(?:start|end)_of_[a-z]+|[a-z]+_soft_token|unused[0-9]+|(?:loc|seg)[0-9]{3,4}"
    r"|im_(?:start|end|patch|col)|fake_token_around_image|global-img|row_[0-9]+_col_[0-9]+|sop|eop|box|ref|quad|slice|unit"
    r"|IMG_CONTEXT|IMG|image_placeholder|extra_id_[0-9]{1,3}|<SYS>)>"
    r"|\[/?(?:INST|IMG|IMG_BREAK|IMG_END|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|MASK|CLS|SEP|PAD|UNK)\]",
    re.IGNORECASE,
)


def json_string(text: str) -> str:
    """The text as a JSON string in which no special token is spelt out."""
    # Outside of strings JSON has no "<", and this value is a string.
    return json.dumps(text, ensure_ascii=False).replace("<", "\\u003c").replace("[", "\\u005b")


def spaced(text: str) -> str:
    """The text with a space after each character that can begin a special token."""
    return _OPENING.sub(r"\g<0> ", text)


def unspaced(text: str) -> str:
    """The inverse of `spaced`."""
    return _SPACED.sub(r"\1", text)


def without_tokens(text: str) -> str:
    """A thinker's text without control characters and what looks like a special token."""
    return _TOKEN.sub(" ", _CONTROL.sub(" ", text))
