"""OmniGen2 (BAAI): `OmniGen2Pipeline`, which is in its own repository and not in diffusers.

To serve it, clone https://github.com/VectorSpaceLab/OmniGen2, put the clone on ``PYTHONPATH`` (it is not a package) and install
``einops``. No code from the model's folder is executed. Not tested with the published weights: the tests use a double of the
pipeline, and the repository's code was run with random weights only (on a CPU, with transformers 5.23; upstream asks for 4.51).

Guidance has two scales, for the text (``guidance_scale``, upstream's ``text_guidance_scale``) and for the source. Each of them
above 1 costs one more call a step, and the latter has no effect without the former. Defaults: those of upstream's editing
script, including its negative prompt. As upstream does, the source is scaled to at most the working area and a longest side of
its square root, and so are up to four references; an edit has the source's size unless another is requested. Calls of its
transformer take lists: edits are interleaved but not batched. Its scheduler gives no previews.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL
from huggingface_hub import snapshot_download
from PIL import Image

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.diffusion.text_limit import Text

_MULTIPLE = 16  # the VAE's factor 8, and patches of 2 x 2
_NEGATIVE_PROMPT = (
    "(((deformed))), blurry, over saturation, bad anatomy, disfigured, poorly drawn face, mutation, mutated, (extra_limb), "
    "(ugly), (poorly drawn hands), fused fingers, messy drawing, broken legs censor, censored, censor_bar"
)
_TEXT_TOKENS = 1024
_TEMPLATE_TOKENS = 64
"""More than upstream's template around a prompt has."""
_MAX_IMAGES = 5
"""As many as its transformer has embeddings for (``image_index_embedding``); upstream's demonstration (``app.py``) takes 3."""
_SOURCE_SEED = 0


def _source_size(job: EditJob, pixels: int) -> Size:
    width, height = job.image.size
    scale = min(1.0, math.isqrt(pixels) / max(width, height))
    return working_size((math.ceil(width * scale), math.ceil(height * scale)), pixels, _MULTIPLE)


def size(job: EditJob, pixels: int) -> Size:
    """The edit's size: the requested aspect ratio, at most the working area, or the scaled source's size."""
    return _source_size(job, pixels) if job.size is None else working_size(job.size, pixels, _MULTIPLE)


def _arguments(job: EditJob, pixels: int) -> dict[str, Any]:
    given = [replace(job, image=image) for image in (job.image, *job.references)]
    pictures = [each.image.resize(_source_size(each, pixels), Image.Resampling.LANCZOS) for each in given]
    width, height = size(job, pixels)
    return {
        "prompt": job.prompt,
        "negative_prompt": _NEGATIVE_PROMPT if job.negative_prompt is None else job.negative_prompt,
        # The pipeline takes a flat list as one picture for each prompt of a batch: several of one prompt are a list within it.
        "input_images": [pictures] if job.references else pictures,
        "text_guidance_scale": job.parameters["guidance_scale"],
        "image_guidance_scale": job.parameters["image_guidance_scale"],
        "num_inference_steps": int(job.parameters["num_inference_steps"]),
        "max_sequence_length": _TEXT_TOKENS,
        "height": height,
        "width": width,
        "align_res": False,
        # Pictures have their final size already: the pipeline must not scale them again, nor round differently.
        "max_pixels": max(width * height, *(picture.width * picture.height for picture in pictures)),
        "max_input_image_side_length": max(side for picture in pictures for side in picture.size),
    }


def _calls_a_step(job: EditJob) -> int:
    if job.parameters["guidance_scale"] <= 1:
        return 1
    return 3 if job.parameters["image_guidance_scale"] > 1 else 2


def load(model: str, dtype: torch.dtype, revision: str | None = None) -> Any:
    """Load the pipeline from a folder or hub id.

    Raises:
        ValueError: when the repository's code cannot be imported.
        OSError: when the model cannot be found or downloaded.
    """
    try:
        pipeline = importlib.import_module("omnigen2.pipelines.omnigen2.pipeline_omnigen2")
        denoiser = importlib.import_module("omnigen2.models.transformers.transformer_omnigen2")
        scheduling = importlib.import_module("omnigen2.schedulers.scheduling_flow_match_euler_discrete")
    except ImportError as exc:
        raise ValueError(
            f"OmniGen2 needs the code of its own repository ({exc}): clone https://github.com/VectorSpaceLab/OmniGen2, put the"
            " clone on PYTHONPATH, and install einops"
        ) from exc
    folder = Path(model) if Path(model).is_dir() else Path(snapshot_download(model, revision=revision))
    vision_language: Any = transformers.Qwen2_5_VLForConditionalGeneration
    # Component by component: from_pretrained of the pipeline would need trust_remote_code for code in the model's folder.
    return pipeline.OmniGen2Pipeline(
        transformer=denoiser.OmniGen2Transformer2DModel.from_pretrained(folder / "transformer", torch_dtype=dtype),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype),
        scheduler=scheduling.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        mllm=vision_language.from_pretrained(folder / "mllm", dtype=dtype),
        processor=transformers.AutoProcessor.from_pretrained(folder / "processor"),
    )


class _Deterministic:
    """A mixin that makes an OmniGen2 pipeline return a tuple, and encode its source deterministically."""

    def __call__(self, **arguments: Any) -> Any:
        answer = super().__call__(**arguments)  # type: ignore[misc]
        # With return_dict=False upstream returns the bare pictures, where diffusers returns a tuple.
        return answer if arguments.get("return_dict", True) else (answer,)

    def encode_vae(self, img: torch.Tensor) -> torch.Tensor:
        """Latents (1, C, h, w) of a picture (1, 3, H, W) in -1 … 1: always the same sample of the distribution."""
        # Upstream samples with the global generator, so that the seed would not determine the picture.
        with torch.random.fork_rng(devices=[img.device] if img.is_cuda else []):
            torch.manual_seed(_SOURCE_SEED)
            latents: torch.Tensor = super().encode_vae(img)  # type: ignore[misc]
        return latents


def _make_deterministic(pipe: Any) -> Family:
    kind = type(pipe)
    pipe.__class__ = type(kind.__name__, (_Deterministic, kind), {})
    return FAMILY


FAMILY = Family(
    name="omnigen2",
    capabilities=Capabilities(
        negative_prompt=True,
        negative_prompt_needs="guidance_scale",
        max_images=_MAX_IMAGES,
        parameters={
            "num_inference_steps": Range(1, 100, 50, whole=True),
            "guidance_scale": Range(1, 10, 5),
            "image_guidance_scale": Range(1, 5, 2),
        },
    ),
    call=_arguments,
    collations={},
    size=size,
    reduces=_source_size,
    guided_by="guidance_scale",
    guided=frozenset({"image_guidance_scale"}),
    cached_methods=("encode_prompt", "encode_vae"),
    calls_a_step=_calls_a_step,
    load=load,
    on_load=_make_deterministic,
    step_caches=frozenset(),
    text=Text(("processor",), _TEXT_TOKENS - _TEMPLATE_TOKENS),
    licence="Apache-2.0",
)
