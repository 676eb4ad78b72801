"""Qwen-Image-Edit-2509 and -2511 (Alibaba): `QwenImageEditPlusPipeline`.

As Qwen-Image-Edit, but the text encoder looks at a smaller copy of the source (384 x 384 of 1024 x 1024) and the VAE encodes
one of its own. Defaults: the model cards' (40 steps, true CFG 4, a space as negative prompt).
"""

from __future__ import annotations

from typing import Any

from diffusers import QwenImageEditPlusPipeline

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.family import Family, Working
from services.editor.pipelines.diffusion.rescaling import calculated_size, rescale
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.qwen_edit import HOWS, MULTIPLE, guidance, to_vae


def size(job: EditJob, working: Working) -> Size:
    """The edit's size: the source's shape at the working area, or the wished shape and never above that area."""
    if job.size is None:
        return calculated_size(QwenImageEditPlusPipeline, job.image.size, working.pixels)
    return working_size(job.size, working.pixels, MULTIPLE)


def _arguments(job: EditJob, working: Working) -> dict[str, Any]:
    width, height = size(job, working)
    return {
        "image": job.image,
        "prompt": job.prompt,
        "num_inference_steps": FAMILY.steps(job),
        "height": height,
        "width": width,
        **guidance(job, FAMILY.value(job, "true_cfg_scale")),
    }


def _calls_a_step(job: EditJob) -> int:
    return 2 if FAMILY.value(job, "true_cfg_scale") > 1 else 1


FAMILY = Family(
    name="qwen-image-edit-plus",
    capabilities=Capabilities(
        negative_prompt=True,
        negative_prompt_needs="true_cfg_scale",
        partial_images=3,
        parameters={
            # With one step the published schedule, which is stretched to end at 0.02, divides 0 by 0.
            "num_inference_steps": Range(2, 100, 40, whole=True),
            "true_cfg_scale": Range(1, 20, 4),
        },
    ),
    arguments=_arguments,
    hows=HOWS,
    size=size,
    to_vae=to_vae,
    calls_a_step=_calls_a_step,
    rescale=rescale,
    licence="Apache-2.0",
)
