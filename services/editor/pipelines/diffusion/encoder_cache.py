"""What depends on the source or the text alone is computed once: latents of the source, embeddings of text and picture."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from PIL import Image


class EncoderCache:
    """Results of encoders by what they were made of; the least recently used go first.

    Used by the executor's thread alone. What it holds stays on the device, as the pipelines left it.

    Args:
        limit: bytes to keep at most; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.size = 0
        self.hits = 0
        self.misses = 0

    def of(self, method: Callable[..., Any], name: str, source: str) -> Callable[..., Any]:
        """The method, answering from memory where it can.

        Args:
            method: its result must depend on its arguments alone; generators among them must not matter.
            name: what it is called, unique in its pipeline.
            source: the content that pictures and tensors among the arguments were made from by their size alone; empty if
                it is not known, and then only calls without them are remembered.
        """

        @functools.wraps(method)
        def remembering(*args: Any, **kwargs: Any) -> Any:
            key = _key(name, source, args, kwargs)
            if key is None or self._limit == 0:
                return method(*args, **kwargs)
            if key in self._kept:
                self.hits += 1
                self._kept.move_to_end(key)
                return self._kept[key][0]
            self.misses += 1
            result = method(*args, **kwargs)
            self._keep(key, result)
            return result

        return remembering

    def _keep(self, key: Hashable, result: Any) -> None:
        weight = _bytes(result)
        if weight > self._limit:
            return
        self._kept[key] = (result, weight)
        self.size += weight
        while self.size > self._limit:
            _, (_, dropped) = self._kept.popitem(last=False)
            self.size -= dropped

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.size = 0


def _key(name: str, source: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
    parts = [_part(value, source) for value in (*args, *(item for pair in sorted(kwargs.items()) for item in pair))]
    if any(part is None for part in parts):
        return None
    text = repr((name, parts)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()


def _part(value: Any, source: str) -> Hashable | None:
    """An argument as part of a key; None if it cannot be one."""
    if isinstance(value, torch.Generator):
        return "generator"
    if isinstance(value, torch.Tensor):
        return (source, "tensor", tuple(value.shape), str(value.dtype)) if source else None
    if isinstance(value, Image.Image):
        return (source, "image", value.size, value.mode) if source else None
    if isinstance(value, list | tuple):
        parts = tuple(_part(item, source) for item in value)
        return None if None in parts else ("list", *parts)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        return (type(value).__name__, str(value))
    return None


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, list | tuple):
        return sum(_bytes(item) for item in value)
    return 0
