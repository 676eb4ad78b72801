"""The picture in what a pipeline's call returns, whose form differs between pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

_PICTURE = 3  # (C, H, W)


def picture_of(output: Any) -> torch.Tensor:
    """The picture (C, H, W) in 0 … 1 of an edit; of a video, the last frame.

    Args:
        output: a tuple or a `BaseOutput` whose first part are the pictures: tensors (B, C, H, W) or (B, T, C, H, W), or a list.

    Raises:
        TypeError: when there is none.
    """
    found, listed = _first(output), False
    while isinstance(found, list | tuple) and found:
        found, listed = found[0], True
    if isinstance(found, Image.Image):
        found = np.asarray(found.convert("RGB"), np.float32) / 255
    if isinstance(found, np.ndarray):
        # Channels are the last axis there.
        found = torch.from_numpy(found).movedim(-1, -3)
    if isinstance(found, torch.Tensor) and found.ndim > _PICTURE and not listed:
        found = found[0]
    if isinstance(found, torch.Tensor) and found.ndim > _PICTURE:
        found = found[-1]
    if not isinstance(found, torch.Tensor) or found.ndim != _PICTURE:
        raise TypeError(f"the pipeline returned no picture, but {type(found).__name__}")
    return found


def is_refused(output: Any) -> bool:
    """Whether a safety checker flagged the picture: Stable Diffusion blackens it then, and returns its flags."""
    flags = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    return isinstance(flags, list | tuple) and any(isinstance(flag, bool | np.bool_) and flag for flag in flags)


def _first(output: Any) -> Any:
    if isinstance(output, BaseOutput):
        output = output.to_tuple()
    return output[0] if isinstance(output, tuple) and output else output
