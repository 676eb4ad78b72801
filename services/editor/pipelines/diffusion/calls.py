"""Calls of a denoiser (a transformer or U-Net): which ones one pass can answer, how they are put together and taken apart.

A family says of each argument how a batch of it is made (`Collation`). An argument it does not name keeps a call alone unless
it is a plain value that is the same for all: what is not known to batch exactly is never batched.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch.nn import functional

_MOST_KNOWN = 8


class Collation(Enum):
    """How a batch of an argument is made of the arguments of single calls.

    ``CAT``: tensors (B, …), laid behind each other. ``PAD``: tensors (B, L, C), padded to the longest, with their lengths in
    the mask argument that the family names. ``MASK``: that mask, (B, L) or None. ``SAME``: equal for all, by value.
    ``EACH``: a list with one item a sample. ``SPREAD``: a scalar tensor that holds for every sample of its call. ``NAMED``: a
    dictionary of tensors (B, …), each laid behind its namesakes.
    """

    CAT = "cat"
    PAD = "pad"
    MASK = "mask"
    SAME = "same"
    EACH = "each"
    SPREAD = "spread"
    NAMED = "named"


@dataclass(slots=True, eq=False)
class Call:
    """One call of the denoiser by one edit: its arguments by name, and the cache context it was made in."""

    arguments: dict[str, Any]
    context: str | None = None

    @property
    def main(self) -> torch.Tensor:
        """The noisy latents: the first tensor argument, (B, tokens, channels) or (B, channels, height, width)."""
        tensor: torch.Tensor = next(value for value in self.arguments.values() if isinstance(value, torch.Tensor))
        return tensor

    @property
    def samples(self) -> int:
        """B."""
        return int(self.main.shape[0])

    @property
    def cost(self) -> int:
        """Tokens: samples x (sequence length, or latent pixels; and the length of the text)."""
        shape = self.main.shape
        text = self.arguments.get("encoder_hidden_states")
        words = text.shape[1] if isinstance(text, torch.Tensor) else 0
        return int(shape[0] * (words + (shape[1] if len(shape) == 3 else shape[2] * shape[3])))  # noqa: PLR2004 - (B, L, C)


class Fingerprints:
    """Digests of an edit's constant tensors (position ids). Most are the same objects at every step, and read once."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[torch.Tensor, str]] = OrderedDict()

    def of(self, tensor: torch.Tensor) -> str:
        """The digest of a tensor's values."""
        seen = self._known.get(id(tensor))
        if seen is None or seen[0] is not tensor:
            content = tensor.detach().to("cpu", torch.float64).contiguous().numpy().tobytes()
            seen = (tensor, hashlib.sha256(content).hexdigest())
            self._known[id(tensor)] = seen
            if len(self._known) > _MOST_KNOWN:  # some pipelines make theirs anew at every step
                self._known.popitem(last=False)
        return seen[1]


def group_of(call: Call, collations: Mapping[str, Collation], prints: Fingerprints) -> Hashable | None:
    """Equal for calls that one pass can answer; None for one that has to be alone."""
    parts: list[Hashable] = []
    collations = _present(call, collations)
    for name, value in call.arguments.items():
        how = collations.get(name)
        if isinstance(value, torch.Tensor):
            part = _tensor_part(value, how, call.samples, prints)
        elif how is Collation.LIST and isinstance(value, list) and len(value) == call.samples:
            part = repr(value[0]) if all(item == value[0] for item in value) else None
        elif how is Collation.DICT and isinstance(value, dict):
            part = _named_part(value, call.samples, prints)
        elif how is Collation.MASK and value is None:
            part = "mask"
        else:
            part = repr(value) if _is_plain(value) else None
        if part is None:
            return None
        parts.append((name, part))
    return tuple(sorted(parts, key=str))


def _present(call: Call, collations: Mapping[str, Collation]) -> dict[str, Collation]:
    """How the arguments that a call has are batched: without a mask nothing is padded, and without padding none is made."""
    present = {name: collations[name] for name in call.arguments if name in collations}
    if {Collation.PAD, Collation.MASK} <= set(present.values()):
        return present
    return {name: Collation.CAT if how in {Collation.PAD, Collation.MASK} else how for name, how in present.items()}


def _tensor_part(value: torch.Tensor, how: Collation | None, samples: int, prints: Fingerprints) -> Hashable | None:
    kind = (str(value.dtype), str(value.device))
    each = value.ndim > 0 and len(value) == samples  # otherwise it is meant to be spread over the samples
    if how is Collation.CAT and each:
        return (*kind, tuple(value.shape[1:]))
    if how is Collation.PAD and each:
        return (*kind, tuple(value.shape[2:]))
    if how is Collation.MASK:
        return "mask"
    if how is Collation.SAME:
        return (*kind, tuple(value.shape), prints.of(value))
    if how is Collation.EXPAND and value.ndim == 0:
        return kind
    return None


def _named_part(value: Mapping[str, Any], samples: int, prints: Fingerprints) -> Hashable | None:
    if not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        return None
    parts = {name: _tensor_part(tensor, Collation.CAT, samples, prints) for name, tensor in value.items()}
    return None if None in parts.values() else tuple(sorted(parts.items(), key=str))


def _is_plain(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float | str):
        return True
    return isinstance(value, dict) and not value


def merge(calls: Sequence[Call], collations: Mapping[str, Collation]) -> dict[str, Any]:
    """The arguments of one pass that answers all the calls (of one group). A single call's stay as they are."""
    if len(calls) == 1:
        return calls[0].arguments
    merged: dict[str, Any] = {}
    collations = _present(calls[0], collations)
    for name, first in calls[0].arguments.items():
        values = [call.arguments[name] for call in calls]
        how = collations.get(name)
        if how is Collation.LIST and isinstance(first, list):
            merged[name] = [item for value in values for item in value]
        elif how is Collation.DICT and isinstance(first, dict):
            merged[name] = {key: torch.cat([value[key] for value in values]) for key in first}
        elif how is Collation.EXPAND and isinstance(first, torch.Tensor):
            merged[name] = torch.cat([value.expand(call.samples) for call, value in zip(calls, values, strict=True)])
        elif how is Collation.CAT and isinstance(first, torch.Tensor):
            merged[name] = torch.cat(values)
        elif how is Collation.PAD and isinstance(first, torch.Tensor):
            merged[name] = _padded(values)
        elif how is Collation.MASK:
            merged[name] = None  # made below, when the lengths are known
        else:
            merged[name] = first
    _add_mask(merged, calls, collations)
    return merged


def _padded(values: Sequence[torch.Tensor]) -> torch.Tensor:
    longest = max(value.shape[1] for value in values)
    return torch.cat([functional.pad(value, (0, 0, 0, longest - value.shape[1])) for value in values])


def _add_mask(merged: dict[str, Any], calls: Sequence[Call], collations: Mapping[str, Collation]) -> None:
    padded = next((name for name, how in collations.items() if how is Collation.PAD and name in merged), None)
    mask = next((name for name, how in collations.items() if how is Collation.MASK and name in merged), None)
    if padded is None or mask is None:
        return
    longest = merged[padded].shape[1]
    rows = []
    for call in calls:
        given, text = call.arguments[mask], call.arguments[padded]
        own = torch.ones(text.shape[:2], dtype=torch.long, device=text.device) if given is None else given.long()
        rows.append(functional.pad(own, (0, longest - own.shape[1])))
    whole = torch.cat(rows)
    # As the pipelines do it: no mask where nothing is masked, which also keeps the faster attention kernels.
    lengths = {call.arguments[padded].shape[1] for call in calls}
    unmasked = len(lengths) == 1 and all(call.arguments[mask] is None for call in calls)
    merged[mask] = None if unmasked else whole


def split(answer: Any, calls: Sequence[Call]) -> list[Any]:
    """Each call's share of the pass's answer: a tuple of tensors (B, …).

    Raises:
        TypeError: when the answer is of another kind and there is more than one call.
    """
    if len(calls) == 1:
        return [answer]
    if not isinstance(answer, tuple) or not all(isinstance(part, torch.Tensor) for part in answer):
        raise TypeError(f"a denoiser answered several calls with {type(answer).__name__}, not a tuple of tensors")
    sizes = [call.samples for call in calls]
    columns = [part.split(sizes) for part in answer]
    return [tuple(column[place] for column in columns) for place in range(len(calls))]
