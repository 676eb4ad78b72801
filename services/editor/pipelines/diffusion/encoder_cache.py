"""The encoder cache: latents of the source, and embeddings of text and picture, are computed once."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from cachetools import LRUCache
from PIL import Image


class EncoderCache:
    """Results of encoders by a digest of their arguments; the least recently used are evicted first.

    Results stay on the device, as the pipelines returned them. Any thread may clear it while one computes.

    Args:
        limit: bytes to keep at most; 0 disables the cache.
    """

    def __init__(self, limit: int) -> None:
        self._results: LRUCache[Hashable, Any] = LRUCache(limit, getsizeof=_bytes)
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def size(self) -> int:
        """Bytes in the cache."""
        return int(self._results.currsize)

    def cached(self, method: Callable[..., Any], name: str, source: str) -> Callable[..., Any]:
        """The method with its results cached.

        Args:
            method: its result must depend on its arguments alone; generators among them must not matter.
            name: the method's name, unique in its pipeline.
            source: digest of the source that the edit's pictures came with; empty if none of them may be kept, and then only
                calls without pictures and tensors are cached. These are told apart by their content.
        """

        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            key = _key(name, partial(_by_content, source), args, kwargs)
            if key is None or self._results.maxsize == 0:
                return method(*args, **kwargs)
            with self._lock:
                if key in self._results:
                    self.hits += 1
                    return self._results[key]
            self.misses += 1
            result = method(*args, **kwargs)
            if _bytes(result) <= self._results.maxsize:
                with self._lock:
                    self._results[key] = result
            return result

        return wrapper

    def clear(self) -> None:
        """Drop all results."""
        with self._lock:
            self._results.clear()


_Part = Callable[[torch.Tensor | Image.Image], Hashable | None]


def _key(name: str, picture: _Part, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
    parts = [_part(value, picture) for value in (*args, *(item for pair in sorted(kwargs.items()) for item in pair))]
    if any(part is None for part in parts):
        return None
    text = repr((name, parts)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()


def _part(value: Any, picture: _Part) -> Hashable | None:
    """An argument as part of a key; None if the call cannot be cached."""
    if isinstance(value, torch.Generator):
        return "generator"
    if isinstance(value, torch.Tensor | Image.Image):
        return picture(value)
    if isinstance(value, list | tuple):
        parts = tuple(_part(item, picture) for item in value)
        return None if None in parts else ("list", *parts)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        return (type(value).__name__, str(value))
    return None


def _by_content(source: str, value: torch.Tensor | Image.Image) -> Hashable | None:
    if not source:
        return None
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        return (source, "tensor", tuple(value.shape), str(value.dtype), hashlib.sha256(data).hexdigest())
    return (source, "image", value.size, value.mode, hashlib.sha256(value.tobytes()).hexdigest())


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, list | tuple):
        return sum(_bytes(item) for item in value)
    return 0
