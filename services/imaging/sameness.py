"""Whether an edited picture is its source: the same pixels, however the two are encoded."""

from __future__ import annotations

import hashlib
from typing import Final

from PIL import Image, ImageChops

_STRIP: Final = 8
"""Rows in the middle that are compared first: an edit nearly always shows there."""


def same_pixels(source: Image.Image, edited: Image.Image) -> bool:
    """Whether both have the same size and, in RGB with alpha, the same pixels. What is wholly transparent has no colour."""
    if source.size != edited.size:
        return False
    width, height = source.size
    top = max(0, (height - _STRIP) // 2)
    strip = (0, top, width, min(height, top + _STRIP))
    return _same(source.crop(strip), edited.crop(strip)) and _same(source, edited)


def _same(source: Image.Image, edited: Image.Image) -> bool:
    if source.mode == edited.mode == "RGB":
        return ImageChops.difference(source, edited).getbbox() is None
    before, after = _premultiplied(source), _premultiplied(edited)
    # With alpha, `getbbox` looks at the alpha channel alone unless it is told otherwise.
    return ImageChops.difference(before, after).getbbox(alpha_only=False) is None


def _premultiplied(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGBa")


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 of size and pixels; that of an opaque picture is the same with and without an alpha channel.

    Args:
        image: in a plain mode, as `services.imaging.codec.decode` returns it.
    """
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:  # noqa: PLR2004
        image = image.convert("RGB")
    made = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    made.update(image.tobytes())
    return made.digest()
