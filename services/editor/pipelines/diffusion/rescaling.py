"""Pipelines that write the area they work at into their source (1024 x 1024), made to work at another."""

from __future__ import annotations

import functools
import inspect
import sys
from types import ModuleType
from typing import Any

from services.editor.pipelines.diffusion.sizes import Size

_WRITTEN = 1024 * 1024
_LEAST = 56 * 56
"""Less than this is not worth looking at for a text encoder (Plus shows it 384 x 384 of 1024 x 1024)."""


def rescale(pipeline_class: type, pixels: int) -> None:
    """Make a pipeline class work at ``pixels`` instead of 1024 x 1024, and every other area it uses in proportion.

    The function that its module computes sizes with is replaced, for the whole process; 1024 x 1024 puts the original back.
    """
    module: Any = _module(pipeline_class)
    original = inspect.unwrap(module.calculate_dimensions)

    @functools.wraps(original)
    def scaled(target_area: int, ratio: float) -> Any:
        return original(rescaled(target_area, pixels), ratio)

    module.calculate_dimensions = original if pixels == _WRITTEN else scaled


def rescaled(area: int, pixels: int) -> int:
    """An area that is written into a pipeline's source, when it works at ``pixels``."""
    return max(_LEAST, area * pixels // _WRITTEN)


def calculated_size(pipeline_class: type, shape: Size, pixels: int) -> Size:
    """The size that a pipeline class brings a picture of shape ``shape`` to when it works at ``pixels``."""
    module: Any = _module(pipeline_class)
    width, height, *_ = inspect.unwrap(module.calculate_dimensions)(max(_LEAST, pixels), shape[0] / shape[1])
    return width, height


def _module(pipeline_class: type) -> ModuleType:
    return sys.modules[pipeline_class.__module__]
