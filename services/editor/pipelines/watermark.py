"""A hook for imperceptible watermarks: a function of another package, which gets an edited picture and returns it marked.

A package names it in the entry-point group `GROUP`, and the operator names that with ``EDITTHINKER_EDITOR_WATERMARK``. No
watermark is part of this project (docs/decisions/0183).
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable
from typing import Final

from PIL import Image

from services.errors import ApiError

log = logging.getLogger(__name__)
GROUP: Final = "editthinker.watermarks"
Watermark = Callable[[Image.Image], Image.Image]
"""Gets an RGB or RGBA picture, on any of several threads, and returns one of the same size and mode."""


def load(name: str) -> Watermark:
    """The watermark of that name.

    Raises:
        ValueError: when no installed package has it, or it cannot be loaded.
    """
    found = importlib.metadata.entry_points(group=GROUP)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise ValueError(f"watermark: no installed package has {name!r} in the entry-point group {GROUP} (there are: {known})")
    try:
        watermark: Watermark = found[name].load()
    except (ImportError, AttributeError) as exc:
        raise ValueError(f"watermark: {name!r} cannot be loaded: {exc}") from exc
    if not callable(watermark):
        raise ValueError(f"watermark: {name!r} is not a function of a picture")  # noqa: TRY004 - a setting's error
    return watermark


def marked(watermark: Watermark, picture: Image.Image) -> Image.Image:
    """The picture with the watermark.

    Raises:
        ApiError: ``edit_failed``, when the watermark fails, or returns another kind of picture: an unmarked one is not answered.
    """
    try:
        made: object = watermark(picture.copy())
    except Exception as exc:
        log.exception("the watermark failed")
        raise ApiError("edit_failed", "the watermark of this worker failed; its log says why") from exc
    if not isinstance(made, Image.Image) or (made.size, made.mode) != (picture.size, picture.mode):
        raise ApiError("edit_failed", "the watermark of this worker returned no picture of the same size and mode")
    return made
