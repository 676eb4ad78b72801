"""Tiny pipelines of the diffusion families with random weights: nothing is downloaded.

They run the same code as the published models, in a tenth of a second a picture. `BUILDERS` makes one in
memory, `save` a folder that diffusers loads; ``python -m tests.tiny NAME FOLDER`` does the latter from the command line.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MODULES = {
    "flux2": "flux2",
    "flux2-klein": "flux2_klein",
    "flux2-klein-kv": "flux2_klein:build_kv",
    "flux3-klein": "flux3_klein",
    "instruct-pix2pix": "instruct_pix2pix",
    "instruct-pix2pix-xl": "instruct_pix2pix_xl",
    "kontext": "kontext",
    "longcat-image-edit": "longcat",
    "qwen-image-2.1": "qwen_image_21",
    "qwen-image-edit": "qwen_edit",
    "qwen-image-edit-plus": "qwen_edit_plus",
}
_UNKNOWN = {
    "chronoedit": "chronoedit",
    "stable-diffusion-img2img": "instruct_pix2pix:build_img2img",
    "z-image-img2img": "z_image",
}


def _lazily(where: str) -> Callable[[], Any]:
    module, _, function = where.partition(":")

    def build() -> Any:
        return getattr(importlib.import_module(f"tests.tiny.{module}"), function or "build")()

    return build


BUILDERS: Mapping[str, Callable[[], Any]] = {name: _lazily(module) for name, module in _MODULES.items()}
"""By the family's name: makes its pipeline, the same weights every time. torch is imported when one is called."""

UNKNOWN: Mapping[str, Callable[[], Any]] = {name: _lazily(module) for name, module in _UNKNOWN.items()}
"""Pipelines of diffusers that no family serves."""


def save(name: str, folder: Path) -> Path:
    """Write a family's tiny pipeline into a folder, which is returned.

    Raises:
        KeyError: when there is no such family.
    """
    pipeline = {**BUILDERS, **UNKNOWN}[name]()
    # Pipelines of blocks have an index that may point to other places; this one points to the folder.
    here = {"overwrite_modular_index": True} if hasattr(pipeline, "blocks") else {}
    pipeline.save_pretrained(str(folder), **here)
    return folder
