"""Qwen-Image-Edit-2509 and -2511 (Alibaba): `QwenImageEditPlusPipeline`.

As Qwen-Image-Edit, but the text encoder gets a smaller copy of the source (384 x 384 of 1024 x 1024) than the VAE.
It takes one to three pictures, as the model cards say, the source first.
Defaults: the model cards' (40 steps, true CFG 4, a space as negative prompt).
"""

from __future__ import annotations

from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import CONDITION_IMAGE_SIZE

from services.editor.pipelines.qwen_edit import family, with_steps

FAMILY = family(
    "qwen-image-edit-plus", QwenImageEditPlusPipeline, with_steps(40, max_images=3), text_encoder_pixels=CONDITION_IMAGE_SIZE
)
