"""Makes pipelines with a hard-coded working area (1024 x 1024) work at another one."""

from __future__ import annotations

import functools
import inspect
import sys
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from services.editor.pipelines.diffusion.sizes import Size

working_area: ContextVar[int | None] = ContextVar("working_area", default=None)
"""The area that the current edit works at, in place of its class's."""
_HARD_CODED = 1024 * 1024
_MIN_AREA = 56 * 56
"""Lower bound of the text encoder's copy (Qwen-Image-Edit-Plus gives it 384 x 384 of 1024 x 1024): 2 x 2 tokens of 28 pixels."""


def rescale(pipeline_class: type, pixels: int) -> None:
    """Make a pipeline class work at ``pixels`` instead of 1024 x 1024, and scale its other areas in proportion.

    Replaces ``calculate_dimensions`` of its module for the whole process. Where `working_area` is set, that counts instead.
    """
    module: Any = _module(pipeline_class)
    original = inspect.unwrap(module.calculate_dimensions)

    @functools.wraps(original)
    def scaled(target_area: int, ratio: float) -> Any:
        return original(rescaled(target_area, working_area.get() or pixels), ratio)

    module.calculate_dimensions = scaled


def rescaled(area: int, pixels: int) -> int:
    """A hard-coded area of a pipeline, scaled for working at ``pixels``."""
    return max(_MIN_AREA, area * pixels // _HARD_CODED)


def calculated_size(pipeline_class: type, shape: Size, pixels: int) -> Size:
    """The size to which a pipeline class scales a picture of shape ``shape`` when it works at ``pixels``."""
    module: Any = _module(pipeline_class)
    width, height, *_ = inspect.unwrap(module.calculate_dimensions)(max(_MIN_AREA, pixels), shape[0] / shape[1])
    return width, height


def _module(pipeline_class: type) -> ModuleType:
    return sys.modules[pipeline_class.__module__]
