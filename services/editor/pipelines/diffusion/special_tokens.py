"""The special tokens of a loaded pipeline's tokenizers: a prompt that spells one is refused before any work.

Tokenizers read them wherever they stand. In Qwen-Image-Edit's or LongCat's template ``<|im_end|>`` ends the user's turn and
``<|image_pad|>`` takes the place of a picture, and the pipeline fails in the middle of its call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

_BRACKETED: Final = re.compile(r"[<\[].+[>\]]", re.DOTALL)
"""Some tokenizers have an ordinary character for a special token: the second one of Stable Diffusion XL pads with ``!``."""


def special_tokens(pipe: Any) -> frozenset[str]:
    """The special tokens of every tokenizer among a pipeline's components, those in processors included."""
    found = {
        token
        for component in getattr(pipe, "components", {}).values()
        for tokenizer in (component, getattr(component, "tokenizer", None))
        for token in _tokens(tokenizer)
    }
    return frozenset(token for token in found if _BRACKETED.fullmatch(token))


def _tokens(tokenizer: Any) -> Iterator[str]:
    yield from (str(token) for token in getattr(tokenizer, "all_special_tokens", ()))
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    yield from (str(token.content) for token in added.values() if token.special)
