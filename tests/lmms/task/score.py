"""What lmms-eval calls for the small task: a result counts if it is a picture of the source's size that is not the source."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image, ImageChops


def visual(doc: dict[str, Any]) -> list[Image.Image]:
    """The source."""
    return [_source(doc)]


def text(doc: dict[str, Any], _: dict[str, Any] | None = None) -> str:
    """The instruction."""
    return str(doc["instruction"])


def results(doc: dict[str, Any], answers: list[str], **_: Any) -> dict[str, float]:
    """1 for an edit."""
    source, paths = _source(doc), json.loads(answers[0])["images"]
    if not paths:
        return {"edited": 0.0}
    with Image.open(paths[0]) as picture:
        edited = picture.convert("RGB")
    same = edited.size != source.size or ImageChops.difference(edited, source).getbbox() is None
    return {"edited": 0.0 if same else 1.0}


def _source(doc: dict[str, Any]) -> Image.Image:
    given = doc["input_image"]
    picture = given if isinstance(given, Image.Image) else Image.open(io.BytesIO(given["bytes"]))
    return picture.convert("RGB")
