"""The pipeline families by name. A new diffusion family is one module and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.editor.pipelines.base import Pipeline

# name: (module with FAMILY, the diffusers pipeline classes that it serves, by the name in model_index.json)
DIFFUSION: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "flux2": ("services.editor.pipelines.flux2", ("Flux2Pipeline",)),
    "flux2-klein": ("services.editor.pipelines.flux2_klein", ("Flux2KleinPipeline",)),
    "flux2-klein-kv": ("services.editor.pipelines.flux2_klein_kv", ("Flux2KleinKVPipeline",)),
    "instruct-pix2pix": ("services.editor.pipelines.instruct_pix2pix", ("StableDiffusionInstructPix2PixPipeline",)),
    "instruct-pix2pix-xl": ("services.editor.pipelines.instruct_pix2pix_xl", ("StableDiffusionXLInstructPix2PixPipeline",)),
    "kontext": ("services.editor.pipelines.kontext", ("FluxKontextPipeline",)),
    "longcat-image-edit": ("services.editor.pipelines.longcat", ("LongCatImageEditPipeline",)),
    "omnigen2": ("services.editor.pipelines.omnigen2", ("OmniGen2Pipeline",)),
    "qwen-image-edit": ("services.editor.pipelines.qwen_edit", ("QwenImageEditPipeline",)),
    "qwen-image-edit-plus": ("services.editor.pipelines.qwen_edit_plus", ("QwenImageEditPlusPipeline",)),
}
EMBEDDED = "classical"
AUTO = "auto"
"""Let the model's own `model_index.json` say which family it is."""
NAMES = (AUTO, EMBEDDED, *sorted(DIFFUSION))


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a diffusion pipeline is loaded and run. Everything but ``dtype`` is off, or exact, unless asked for.

    Attributes:
        served_name: what the service calls the model; None: the family's name.
        device: as torch names it; None: the first GPU, else the CPU.
        dtype: ``bfloat16``, ``float16`` or ``float32``; None: bfloat16 on a GPU, float32 on a CPU.
        pixels: the area to work at; None: the one the family was trained at.
        remember_bytes: how much of what the encoders compute is kept.
        attention: an attention backend of diffusers (``native``, ``flash``, ``_flash_3``, ``sage`` …).
        compile: compile the repeated blocks of the denoiser with this backend of torch (``inductor``).
        quantization: ``fp8`` (weights stored so, layer by layer), or torchao's ``int8wo``, ``float8wo``, ``float8dq``.
        cache: ``first_block`` or ``taylorseer``: skip work between steps.
        cache_threshold: how much of a difference counts as none, for ``first_block``.
        lora: weights to load, with their strength.
        lora_scale: strength of the LoRA.
        few_steps: the LoRA is a few-step one (Lightning) made for so many: the default, without classifier-free guidance.
        offload: ``group`` or ``model``: keep the weights in host memory.
    """

    served_name: str | None = None
    device: str | None = None
    dtype: str | None = None
    pixels: int | None = None
    remember_bytes: int = 256 * 1024 * 1024
    attention: str | None = None
    compile: str | None = None
    quantization: str | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: str | None = None
    lora_scale: float = 1.0
    few_steps: int | None = None
    offload: str | None = None


def load(name: str, model: str | None = None, tuning: Tuning | None = None) -> Pipeline:
    """Build a pipeline.

    Args:
        name: a family, or ``auto``.
        model: a local folder or a hub id; diffusion families need one.
        tuning: how to run it.

    Raises:
        ValueError: when the name is unknown, a model is missing, or the model is of another family.
    """
    if name not in NAMES:
        raise ValueError(f"unknown pipeline {name!r}; known: {', '.join(NAMES)}")
    # Each is imported only when it is chosen: the classical editor must start without torch.
    if name == EMBEDDED:
        if model is not None:
            raise ValueError("the classical editor has no model; leave --model out, or name another pipeline")
        return _classical()
    if model is None:
        raise ValueError(f"the pipeline {name} needs --model: a folder, or a model of the hub")
    loading = importlib.import_module("services.editor.pipelines.diffusion.loading")
    build: Callable[[str, str, Tuning], Pipeline] = loading.build
    return build(name, model, tuning or Tuning())


def family_of(pipeline_class: str) -> str | None:
    """The family that serves a diffusers pipeline class."""
    return next((name for name, (_, classes) in DIFFUSION.items() if pipeline_class in classes), None)


def _classical() -> Pipeline:
    from services.editor.pipelines.whole import OneByOne  # noqa: PLC0415 - a family is loaded when chosen

    # By name, as the diffusion families are: the stand-in is built on this package, not under it.
    embedded = importlib.import_module("services.embedded.editor")
    return OneByOne(embedded.ClassicalPipeline())
