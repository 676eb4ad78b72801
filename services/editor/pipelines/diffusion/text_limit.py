"""How long a text a model reads: a longer one is refused before any work, which the pipelines would cut without saying so."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.editor.pipelines.base import EditJob
from services.errors import ApiError

_NO_LIMIT = 1_000_000
"""Tokenizers without a limit of their own have a number of thirty digits."""


def counted(tokenizer: Any, text: str, *, marks: bool = True) -> int:
    """The tokens of a text, with those that the tokenizer (or a processor's) adds around one if ``marks``."""
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    return len(tokenizer(text, add_special_tokens=marks, padding=False, truncation=False, verbose=False)["input_ids"])


@dataclass(frozen=True, slots=True)
class Text:
    """How a pipeline reads a prompt.

    Attributes:
        tokenizers: the components that do, as far as a model has them; processors may stand for theirs.
        most: tokens that it reads, with those that it adds; None: what each tokenizer has as its limit.
        tokens: how many tokens a tokenizer makes of a prompt, with those that the pipeline adds.
    """

    tokenizers: tuple[str, ...]
    most: int | None = None
    tokens: Callable[[Any, str], int] = counted


class TextLimit:
    """The limit of a loaded pipeline.

    Args:
        pipe: the pipeline; its tokenizers are copied, because encoding with one on two threads mixes their settings.
        text: how it reads a prompt; None: texts of any length.
    """

    def __init__(self, pipe: Any, text: Text | None) -> None:
        self._lock = threading.Lock()
        self._tokens = counted if text is None else text.tokens
        self._tokenizers: list[tuple[Any, int, int]] = []
        """Each with the tokens that it reads, and those of them that are not the prompt's."""
        for name in () if text is None else text.tokenizers:
            tokenizer = getattr(pipe, name, None)
            own_most: int = getattr(tokenizer, "model_max_length", _NO_LIMIT)
            most = own_most if text is None or text.most is None else text.most
            if tokenizer is not None and most < _NO_LIMIT:
                own = copy.deepcopy(tokenizer)
                self._tokenizers.append((own, int(most), self._tokens(own, "")))
        self.prompt_tokens = min((most - added for _, most, added in self._tokenizers), default=None)

    def excess(self, text: str) -> tuple[int, int] | None:
        """(tokens of a text, how many of them would be read) where that is less."""
        with self._lock:
            for tokenizer, most, added in self._tokenizers:
                found = self._tokens(tokenizer, text)
                if found > most:
                    return found - added, most - added
        return None

    def check(self, job: EditJob, name: str) -> None:
        """Refuse a job whose text is longer than the model reads.

        Raises:
            ApiError: ``invalid_value`` naming the field and the limit.
        """
        for param, text in (("prompt", job.prompt), ("negative_prompt", job.negative_prompt or "")):
            excess = self.excess(text)
            if excess is not None:
                found, most = excess
                message = f"{param} has {found:,} tokens, and {name} reads at most {most:,}: shorten it"
                raise ApiError("invalid_value", message, param=param)
