"""A tiny Qwen-Image-Edit-2511."""

from __future__ import annotations

from typing import Any

from diffusers import QwenImageEditPlusPipeline

from tests.tiny import qwen_edit


def build(*, zero_cond_t: bool = True, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU; see `tests.tiny.qwen_edit.build`. Without ``zero_cond_t`` it is a 2509."""
    return qwen_edit.build(QwenImageEditPlusPipeline, zero_cond_t=zero_cond_t, seed=seed)
