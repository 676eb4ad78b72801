"""Encoded pictures of every kind that people send, and files that are none."""

from __future__ import annotations

import io
from random import Random

import numpy as np
from PIL import Image

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "P+")
_ORIENTATION = 0x0112
_TURNED = 5  # from this EXIF orientation on, width and height change places

Size = tuple[int, int]


def _noise(random: Random, size: Size, channels: int) -> np.ndarray:
    return np.random.default_rng(random.getrandbits(32)).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)


def _in_mode(random: Random, size: Size, mode: str) -> Image.Image:
    colours = Image.fromarray(_noise(random, size, 4), "RGBA")
    if mode == "I;16":
        return Image.fromarray(_noise(random, size, 1)[:, :, 0].astype(np.uint16) * 257)
    if mode == "P+":
        return colours.convert("RGB").quantize(8)
    return colours if mode == "RGBA" else colours.convert("RGB").convert(mode) if mode != "LA" else colours.convert("LA")


def source(random: Random, size: Size) -> tuple[bytes, Size]:
    """A picture of some mode and format, stored in this size, and its size when it is upright."""
    kind = random.choice(("PNG", "PNG", "JPEG", "WEBP"))
    mode = random.choice({"PNG": _PNG_MODES, "JPEG": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA")}[kind])
    picture = _in_mode(random, size, mode)
    options: dict[str, object] = {}
    if mode == "P+":
        options["transparency"] = 0
    turned = random.random() < 0.4
    orientation = random.randint(1, 8)
    if turned:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        options["exif"] = exif
    if kind == "WEBP":
        options["lossless"] = random.random() < 0.5
    upright = size[::-1] if turned and orientation >= _TURNED else size
    return encoded(picture, kind, **options), upright


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def broken(random: Random) -> bytes:
    """A file that cannot be edited: cut, of another kind, empty, animated, or too large."""
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    whole = encoded(_in_mode(random, (40, 40), "RGB"))
    return random.choice(
        (
            whole[: len(whole) // 2],
            encoded(frames[0], "GIF"),
            encoded(frames[0], "BMP"),
            b"",
            random.randbytes(random.randint(1, 400)),
            whole[:8] + random.randbytes(100),
            encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
            encoded(Image.new("1", (31_000, 2))),
        )
    )


def mask(random: Random, size: Size) -> bytes:
    """An opening: everything, one pixel, a rectangle, or noise."""
    alpha = np.full((size[1], size[0]), 255, dtype=np.uint8)
    kind = random.randrange(4)
    x, y = random.randrange(size[0]), random.randrange(size[1])
    if kind == 0:
        alpha[:] = 0
    elif kind == 1:
        alpha[y, x] = 0
    elif kind == 2:
        alpha[y:, x:] = random.choice((0, 128))
    else:
        alpha = _noise(random, size, 1)[:, :, 0]
        alpha[y, x] = 0
    picture = Image.new(random.choice(("RGBA", "LA")), size)
    picture.putalpha(Image.fromarray(alpha))
    return encoded(picture)


def wrong_mask(random: Random, size: Size) -> bytes:
    """A mask of another size, without transparency, or that opens nothing."""
    return random.choice(
        (
            encoded(Image.new("RGBA", (size[0] + 1, size[1]))),
            encoded(Image.new("RGB", size)),
            encoded(Image.new("RGBA", size, (0, 0, 0, 255))),
            broken(random),
        )
    )
