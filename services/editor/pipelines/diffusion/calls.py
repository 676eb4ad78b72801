"""Calls of a denoiser (a transformer or U-Net): which ones can share a pass, and how they are merged and split.

A family declares for each argument how it is collated into a batch (`Collation`). A call with an undeclared argument is not
batched, unless the argument is a plain value that is equal for all calls: only what is known to batch exactly is batched.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from cachetools import FIFOCache
from torch.nn import functional

_MAX_FINGERPRINTS = 8


class Collation(Enum):
    """How one argument of several calls becomes that argument of a batch.

    Attributes:
        CAT: tensors (B, …), concatenated.
        PAD: tensors (B, L, C), padded to the longest; their lengths are in the argument declared as ``MASK``.
        MASK: the mask of a padded argument, (B, L) or None.
        SAME: equal in all calls, by value.
        LIST: a list with one item a sample, concatenated.
        EXPAND: a scalar tensor, repeated for each sample of its call.
        DICT: a dictionary of tensors (B, …), concatenated by key.
        PREFIX: the edit's store of a prefix's keys and values: its first call writes them, the others read (`Prefixes`).
    """

    CAT = "cat"
    PAD = "pad"
    MASK = "mask"
    SAME = "same"
    LIST = "list"
    EXPAND = "expand"
    DICT = "dict"
    PREFIX = "prefix"


@dataclass(slots=True, eq=False)
class Call:
    """One call of the denoiser by one edit: its arguments by name, and the cache context it was made in.

    Attributes:
        arguments: by their names in the model's ``forward``.
        context: of step caches, where the pipeline names one.
        positional: those without a name, of a ``forward`` that takes any number; a call with some is not batched.
    """

    arguments: dict[str, Any]
    context: str | None = None
    positional: tuple[Any, ...] = ()

    @property
    def main(self) -> torch.Tensor | None:
        """The noisy latents: the first tensor argument of three dimensions or more, (B, tokens, channels) or (B, channels, …,
        height, width); None for a model that takes them in a list.
        """
        values = self.arguments.values()
        return next((value for value in values if isinstance(value, torch.Tensor) and value.ndim > 2), None)  # noqa: PLR2004

    @property
    def samples(self) -> int:
        """B; 1 where it is not known."""
        return 1 if self.main is None else int(self.main.shape[0])

    @property
    def cost(self) -> int:
        """Tokens: samples x (sequence length, or latent pixels; and the length of the text, and of pictures that are apart).

        Without latents of a known form the values of the largest tensor: they grow with the picture too.
        """
        if self.main is None:
            return max((tensor.numel() for tensor in _tensors([*self.positional, *self.arguments.values()])), default=1) or 1
        shape = self.main.shape
        others = (self.arguments.get(name) for name in ("encoder_hidden_states", "image_cond_hidden_states"))
        more = sum(other.shape[1] for other in others if isinstance(other, torch.Tensor) and other.ndim > 1)
        return max(1, shape[0] * (more + (shape[1] if len(shape) == 3 else math.prod(shape[2:]))))  # noqa: PLR2004 - (B, L, C)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


class Fingerprints:
    """Digests of an edit's constant tensors (position ids). Most are the same object at every step, and hashed once."""

    def __init__(self) -> None:
        # By id, with the tensor itself so that the id stays valid. Some pipelines make new ones at every step: hence the limit.
        self._known: FIFOCache[int, tuple[torch.Tensor, str]] = FIFOCache(_MAX_FINGERPRINTS)

    def of(self, tensor: torch.Tensor) -> str:
        """The digest of a tensor's values."""
        known = self._known.get(id(tensor))
        if known is None:
            content = tensor.detach().to("cpu", torch.float64).contiguous().numpy().tobytes()
            known = self._known[id(tensor)] = (tensor, hashlib.sha256(content).hexdigest())
        return known[1]


def group_of(call: Call, collations: Mapping[str, Collation], fingerprints: Fingerprints) -> Hashable | None:
    """A key that is equal for calls that can share a pass; None for a call that cannot share one."""
    parts: list[Hashable] = []
    collations = _present(call, collations)
    if call.main is None or call.positional:
        return None
    samples = call.samples
    for name, value in call.arguments.items():
        collation = collations.get(name)
        if isinstance(value, torch.Tensor):
            part = _tensor_part(value, collation, samples, fingerprints)
        elif collation is Collation.LIST and isinstance(value, list) and len(value) == samples:
            part = _listed_part(value)
        elif collation is Collation.DICT and isinstance(value, dict):
            part = _named_part(value, samples, fingerprints)
        elif collation is Collation.MASK and value is None:
            part = "mask"
        elif collation is Collation.PREFIX and value is not None:
            part = "prefix"
        else:
            part = repr(value) if _is_plain(value) else None
        if part is None:
            return None
        parts.append((name, part))
    return tuple(sorted(parts, key=str))


def _present(call: Call, collations: Mapping[str, Collation]) -> dict[str, Collation]:
    """The collations of the arguments that a call has. Padding needs a mask, and a mask needs padding; else both are CAT."""
    present = {name: collations[name] for name in call.arguments if name in collations}
    if {Collation.PAD, Collation.MASK} <= set(present.values()):
        return present
    return {
        name: Collation.CAT if collation in {Collation.PAD, Collation.MASK} else collation for name, collation in present.items()
    }


def _tensor_part(value: torch.Tensor, collation: Collation | None, samples: int, fingerprints: Fingerprints) -> Hashable | None:
    kind = (str(value.dtype), str(value.device))
    each = value.ndim > 0 and len(value) == samples  # otherwise it is broadcast over the samples
    if collation is Collation.CAT and each:
        return (*kind, tuple(value.shape[1:]))
    if collation is Collation.PAD and each:
        return (*kind, tuple(value.shape[2:]))
    if collation is Collation.MASK:
        return "mask"
    if collation is Collation.SAME:
        return (*kind, tuple(value.shape), fingerprints.of(value))
    if collation is Collation.EXPAND and value.ndim == 0:
        return kind
    return None


def _listed_part(value: Sequence[Any]) -> Hashable | None:
    if any(True for _ in _tensors(value)):
        return None
    return repr(value[0]) if all(item == value[0] for item in value) else None


def _named_part(value: Mapping[str, Any], samples: int, fingerprints: Fingerprints) -> Hashable | None:
    if not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        return None
    parts = {name: _tensor_part(tensor, Collation.CAT, samples, fingerprints) for name, tensor in value.items()}
    return None if None in parts.values() else tuple(sorted(parts.items(), key=str))


def _is_plain(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float | str):
        return True
    return isinstance(value, dict) and not value


def merge(calls: Sequence[Call], collations: Mapping[str, Collation]) -> dict[str, Any]:
    """The arguments of one pass that answers all the calls (of one group). Those of a single call are returned unchanged."""
    if len(calls) == 1:
        return calls[0].arguments
    merged: dict[str, Any] = {}
    collations = _present(calls[0], collations)
    for name, first in calls[0].arguments.items():
        values = [call.arguments[name] for call in calls]
        collation = collations.get(name)
        if collation is Collation.LIST and isinstance(first, list):
            merged[name] = [item for value in values for item in value]
        elif collation is Collation.DICT and isinstance(first, dict):
            merged[name] = {key: torch.cat([value[key] for value in values]) for key in first}
        elif collation is Collation.EXPAND and isinstance(first, torch.Tensor):
            merged[name] = torch.cat([value.expand(call.samples) for call, value in zip(calls, values, strict=True)])
        elif collation is Collation.CAT and isinstance(first, torch.Tensor):
            merged[name] = torch.cat(values)
        elif collation is Collation.PAD and isinstance(first, torch.Tensor):
            merged[name] = _padded(values)
        elif collation is Collation.PREFIX and first is not None:
            merged[name] = Prefixes(values, [call.samples for call in calls])
        elif collation is Collation.MASK:
            merged[name] = None  # made below, once the lengths are known
        else:
            merged[name] = first
    _add_mask(merged, calls, collations)
    return merged


class Prefixes:
    """The prefix caches of several calls as that of one pass: diffusers' ``get_layer``, and its layers' ``store`` and ``get``.

    Each edit keeps its own rows. They are joined layer by layer as they are read, so that a pass needs the memory of one layer
    more, and not of all.

    Args:
        caches: of the calls, in order.
        sizes: samples of each call.
    """

    def __init__(self, caches: Sequence[Any], sizes: Sequence[int]) -> None:
        self._caches = caches
        self._sizes = list(sizes)

    def get_layer(self, index: int) -> _PrefixLayers:
        """The caches' layers of this index."""
        return _PrefixLayers([cache.get_layer(index) for cache in self._caches], self._sizes)


class _PrefixLayers:
    def __init__(self, layers: Sequence[Any], sizes: list[int]) -> None:
        self._layers = layers
        self._sizes = sizes

    def store(self, k: torch.Tensor, v: torch.Tensor) -> None:
        keys, values = (each.split(self._sizes) for each in (k, v))  # type: ignore[no-untyped-call]
        for layer, key, value in zip(self._layers, keys, values, strict=True):
            # Copies: a view would keep the rows of all edits in memory for as long as one of them runs.
            layer.store(key.clone(), value.clone())

    def get(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = zip(*(layer.get() for layer in self._layers), strict=True)
        return torch.cat(keys), torch.cat(values)


def _padded(values: Sequence[torch.Tensor]) -> torch.Tensor:
    longest = max(value.shape[1] for value in values)
    return torch.cat([functional.pad(value, (0, 0, 0, longest - value.shape[1])) for value in values])


def _add_mask(merged: dict[str, Any], calls: Sequence[Call], collations: Mapping[str, Collation]) -> None:
    padded = next((name for name, collation in collations.items() if collation is Collation.PAD and name in merged), None)
    mask = next((name for name, collation in collations.items() if collation is Collation.MASK and name in merged), None)
    if padded is None or mask is None:
        return
    longest = merged[padded].shape[1]
    rows = []
    for call in calls:
        given, text = call.arguments[mask], call.arguments[padded]
        own = torch.ones(text.shape[:2], dtype=torch.long, device=text.device) if given is None else given.long()
        rows.append(functional.pad(own, (0, longest - own.shape[1])))
    whole = torch.cat(rows)
    # As the pipelines do: no mask where nothing is masked, which also keeps the faster attention kernels.
    lengths = {call.arguments[padded].shape[1] for call in calls}
    unmasked = len(lengths) == 1 and all(call.arguments[mask] is None for call in calls)
    merged[mask] = None if unmasked else whole


def split(output: Any, calls: Sequence[Call]) -> list[Any]:
    """Split the output of a pass, a tuple of tensors (B, …), into one output a call.

    Raises:
        TypeError: when the output has another type and there is more than one call.
    """
    if len(calls) == 1:
        return [output]
    if not isinstance(output, tuple) or not all(isinstance(part, torch.Tensor) for part in output):
        raise TypeError(f"a denoiser answered several calls with {type(output).__name__}, not a tuple of tensors")
    sizes = [call.samples for call in calls]
    columns = [part.split(sizes) for part in output]
    return [tuple(column[index] for column in columns) for index in range(len(calls))]
