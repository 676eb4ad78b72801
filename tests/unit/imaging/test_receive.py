"""An editor's picture as it is received: bare files are not decoded, all others lose what is not pixels."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image, ImageFile, PngImagePlugin

from services.imaging.codec import UNLIMITED, ImageLimits
from services.imaging.decode_worker import answer
from tests.unit.imaging.pictures import saved, scene

LIMITS = [UNLIMITED.max_bytes, UNLIMITED.max_pixels, UNLIMITED.max_side]


def receive(data: bytes, *, alpha: bool = False, limits: ImageLimits | None = None) -> tuple[dict[str, Any], bytes]:
    bounds = [limits.max_bytes, limits.max_pixels, limits.max_side] if limits else LIMITS
    args = {"limits": bounds, "param": "x", "light": True, "alpha": alpha}
    return answer({"operation": "receive", "args": args}, data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_bare_file_is_not_decoded(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size, data = scene().size, saved(scene().convert("RGB" if kind == "JPEG" and mode == "RGBA" else mode), kind)

    def load(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(Image.Image, "load", load)
    facts, made = receive(data)
    assert facts["unchanged"] and not made
    assert (facts["width"], facts["height"]) == size


def test_a_file_that_is_not_whole_is_refused() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "b")
    for data in (saved(scene(), "PNG"), saved(scene(), "PNG", pnginfo=texts), saved(scene(), "JPEG"), saved(scene(), "WEBP")):
        for alpha in (False, True):
            assert "error" in receive(data[:-9], alpha=alpha)[0]


def test_transparency_is_measured_only_if_it_is_asked_for() -> None:
    clear = scene().convert("RGBA")
    clear.putpixel((0, 0), (9, 9, 9, 254))
    for kind in ("PNG", "WEBP"):
        data = saved(clear, kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert receive(data, alpha=True)[0]["alpha"] is True
        assert receive(data)[0]["alpha"] is False
        assert receive(saved(scene().convert("RGBA"), kind), alpha=True)[0]["alpha"] is False
