"""How a diffusion pipeline is loaded and run, as the operator chose."""

from __future__ import annotations

from dataclasses import dataclass

OFF = "off"
"""Keeps an option off that the preset would set."""

LORA_BYTES = 4 * 1024**3
"""Default of `Tuning.lora_bytes`: about a dozen of rank 32 for FLUX.1 in bfloat16."""


@dataclass(frozen=True, slots=True)
class LoraModule:
    """A LoRA that requests may name, as the operator registered it.

    Attributes:
        name: what requests call it.
        path: a file, a folder or a hub id.
        file: its file in the folder or on the hub, where there are several.
        revision: the commit on the hub; None: the current one.
        scale: its strength where a request gives none.
    """

    name: str
    path: str
    file: str | None = None
    revision: str | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """Options of loading and running. All but ``dtype`` are off, or exact, by default.

    Attributes:
        speed: the preset that fills the options left open: ``exact`` (none of them), ``fast``, ``turbo``.
        served_name: the model name that the service announces; None: the family's.
        device: as torch names it; None: the first GPU, else the CPU.
        dtype: ``bfloat16``, ``float16`` or ``float32``; None: bfloat16 on a GPU, float32 on a CPU.
        pixels: the area to work at; None: the one the family was trained at.
        encoder_cache_bytes: size of the encoder cache.
        attention: an attention backend of diffusers (``native``, ``flash``, ``_flash_3``, ``sage`` …).
            This and the next three may be ``off``, against the preset.
        compile: compile the repeated blocks of the denoiser with this backend of torch (``inductor``).
        quantization: ``fp8`` (layerwise casting), or torchao's ``int8wo``, ``float8wo``, ``float8dq``.
        cache: ``first_block`` or ``taylorseer``: a cache that skips work between steps.
        cache_threshold: relative difference below which ``first_block`` skips.
        lora: a LoRA to fuse: a file, a folder or a hub id.
        lora_file: its file in the folder or on the hub, where there are several.
        lora_scale: strength of the LoRA.
        revision, lora_revision: the commits of the model and the LoRA on the hub; None: the current ones.
        few_steps: the LoRA is a few-step one (Lightning), distilled for so many steps: they become the default, without
            classifier-free guidance.
        loras: those that a request may name; not fused.
        lora_bytes: what they may hold in all, on the device.
        offload: ``group`` or ``model``: keep the weights in host memory.
        overlap: encode and decode one edit while others denoise; None: on a GPU. Off with ``offload``.
        parallel: ``ulysses``: split each pass over the processes that torchrun started.
    """

    speed: str = "exact"
    served_name: str | None = None
    device: str | None = None
    dtype: str | None = None
    pixels: int | None = None
    encoder_cache_bytes: int = 256 * 1024 * 1024
    attention: str | None = None
    compile: str | None = None
    quantization: str | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: str | None = None
    lora_file: str | None = None
    lora_scale: float = 1.0
    few_steps: int | None = None
    offload: str | None = None
    overlap: bool | None = None
    revision: str | None = None
    lora_revision: str | None = None
    loras: tuple[LoraModule, ...] = ()
    lora_bytes: int = LORA_BYTES
    parallel: str | None = None
