"""Applies an operator's `Tuning` to a loaded pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from services.editor.pipelines.diffusion import attention, lora, lora_adapters, parallel, speed
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.lora_adapters import LoraAdapters
from services.editor.pipelines.tuning import Tuning

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_MASKLESS = ("flash", "_flash", "sage", "_native_flash", "_sage", "aiter")
"""Attention backends that raise on a mask (diffusers 0.42)."""

_CACHE_THRESHOLD = 0.08
"""First-block cache: a relative change of the first block's output below this skips the other blocks."""


def dtype(tuning: Tuning, device: Device) -> torch.dtype:
    """The dtype to load the weights in.

    Raises:
        ValueError: when the name is unknown.
    """
    name = tuning.dtype or ("bfloat16" if device.is_cuda else "float32")
    if name not in _DTYPES:
        raise ValueError(f"dtype is {name!r}; choose one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def overlap(tuning: Tuning, device: Device) -> bool:
    """Whether encoders and the VAE run on a thread of their own: on a GPU, unless their weights come and go with each call.

    Nor with CUDA graphs: while one is captured, no other thread may allocate memory.
    """
    wanted = device.is_cuda if tuning.overlap is None else tuning.overlap
    return wanted and tuning.offload is None and tuning.compile != "cudagraphs"


def collations(family: Family, tuning: Tuning) -> Mapping[str, Collation]:
    """The family's collations, without padding if the attention takes no mask."""
    # Split over processes, diffusers 0.42 gathers masks of unequal parts in the wrong places.
    maskless = tuning.parallel is not None or (tuning.attention is not None and tuning.attention.startswith(_MASKLESS))
    if not maskless:
        return family.collations
    return {name: Collation.CAT if how is Collation.PAD else how for name, how in family.collations.items()}


def with_few_steps(family: Family, tuning: Tuning) -> Family:
    """The family with a few-step LoRA's defaults: its number of steps, and no classifier-free guidance.

    Raises:
        ValueError: when the family does not take so many steps (a Turbo takes those of its own schedule only).
    """
    if tuning.few_steps is None:
        return family
    ranges = dict(family.capabilities.parameters)
    allowed = ranges["num_inference_steps"]
    if not allowed.admits(tuning.few_steps):
        told = f"{family.name} takes {allowed.words} steps, not {tuning.few_steps}"
        raise ValueError(f"{told}: leave few_steps and the LoRA out")
    ranges["num_inference_steps"] = replace(ranges["num_inference_steps"], default=tuning.few_steps)
    if family.guided_by is not None:
        ranges[family.guided_by] = replace(ranges[family.guided_by], default=1.0)
    return replace(family, capabilities=replace(family.capabilities, parameters=ranges))


def apply(family: Family, pipe: Any, device: Device, tuning: Tuning) -> LoraAdapters | None:
    """Apply the operator's options to a loaded pipeline and move it to its device. Returns the LoRAs that requests may name.

    Raises:
        ValueError: when the family does not support an option.
    """
    if tuning.cache is not None and tuning.cache not in family.step_caches:
        known = ", ".join(sorted(family.step_caches)) or "none"
        raise ValueError(f"{family.name} does not work with the cache {tuning.cache} (it does with: {known}); leave cache out")
    model = getattr(pipe, family.denoiser)
    speed.check(tuning, model, device)
    model.eval()
    if tuning.lora is not None:
        lora.fuse(pipe, tuning.lora, tuning.lora_scale, file=tuning.lora_file, revision=tuning.lora_revision)
        if tuning.few_steps is not None and family.few_steps:
            config = {**pipe.scheduler.config, **family.few_steps}
            pipe.register_modules(scheduler=type(pipe.scheduler).from_config(config))
    # After the fused one, whose adapter is unloaded, and before the quantization, which leaves them as they are.
    loras = lora_adapters.load(pipe, family.denoiser, tuning.loras, tuning.lora_bytes) if tuning.loras else None
    if tuning.quantization is not None:
        _quantize(model, tuning.quantization)
    if tuning.attention is not None:
        # Set only if it works: it becomes the default of all models of the process.
        attention.probe(tuning.attention, device, model.dtype, attention.head_dim(model), masked=family.masked)
        model.set_attention_backend(tuning.attention)
    if tuning.cache is not None:
        model.enable_cache(_cache(tuning.cache, tuning.cache_threshold))
    _move(pipe, device, tuning.offload)
    if tuning.parallel is not None:
        parallel.split(model, device)
    if tuning.compile is not None:
        model.compile_repeated_blocks(fullgraph=True, dynamic=True, backend=tuning.compile)
    return loras


def _quantize(model: Any, kind: str) -> None:
    if kind == "fp8":
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=model.dtype)
        return
    from torchao import quantization as ao  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - optional

    kinds = {
        "int8wo": "Int8WeightOnlyConfig",
        "float8wo": "Float8WeightOnlyConfig",
        "float8dq": "Float8DynamicActivationFloat8WeightConfig",
    }
    ao.quantize_(model, getattr(ao, kinds[kind])())


def _cache(kind: str, threshold: float | None) -> Any:
    from diffusers import hooks  # noqa: PLC0415 - only with a cache

    if kind == "first_block":
        return hooks.FirstBlockCacheConfig(threshold=_CACHE_THRESHOLD if threshold is None else threshold)
    return hooks.TaylorSeerCacheConfig()


def _move(pipe: Any, device: Device, offload: str | None) -> None:
    if offload is None:
        pipe.to(device.device)
    elif not hasattr(pipe, "enable_group_offload"):
        raise ValueError(f"{type(pipe).__name__} cannot be offloaded; leave offload out")
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=device.device)
    else:
        options = {"offload_type": "leaf_level", "use_stream": device.is_cuda}
        pipe.enable_group_offload(onload_device=device.device, **options)
