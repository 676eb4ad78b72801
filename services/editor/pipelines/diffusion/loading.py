"""Loads a diffusion model from a folder or a hub id."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, ModularPipeline
from transformers.utils import is_torchvision_available

from services.editor.pipelines.base import SpeedReport
from services.editor.pipelines.diffusion import generic, hub, parallel, speed
from services.editor.pipelines.diffusion import tuning as tune
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline, Options
from services.editor.pipelines.registry import AUTO, DIFFUSION, GENERIC, family_of
from services.editor.pipelines.tuning import Tuning

log = logging.getLogger(__name__)
INDEXES = ("model_index.json", ModularPipeline.config_name)
"""Models of blocks alone have the second."""


def build(name: str, model: str, tuning: Tuning) -> InterleavedPipeline:
    """Load a model.

    Args:
        name: a diffusion family, ``auto`` or ``generic``.
        model: a local folder or a hub id (huggingface_hub's environment variables apply).
        tuning: how to run it.

    Raises:
        ValueError: when the model is not of the family, or of no known family.
        OSError: when the model cannot be found or downloaded.
    """
    device = _device(tuning)
    end = parallel.join(device).end if tuning.parallel is not None else None
    family, pipe = _load(name, model, tuning, device)
    return serve(family, pipe, device, tuning, end)


def follow(name: str, model: str, tuning: Tuning) -> NoReturn:
    """Load a model's denoiser, and take part in the passes of rank 0; see `services.editor.pipelines.diffusion.parallel`.

    Raises:
        ValueError, OSError: as `build`.
        RuntimeError: when a pass fails.
    """
    device = _device(tuning)
    parallel.join(device)
    family, pipe = _load(name, model, tuning, device)
    denoiser = getattr(pipe, family.denoiser)
    others = [part for part, held in pipe.components.items() if isinstance(held, torch.nn.Module) and part != family.denoiser]
    pipe.register_modules(**dict.fromkeys(others))
    if family.on_load is not None:
        family = family.on_load(pipe)
    tuning, _ = _at_speed(family, pipe, device, tuning)
    tune.apply(family, pipe, device, tuning)
    parallel.follow(denoiser, device)


def _device(tuning: Tuning) -> Device:
    name = tuning.device or ("cuda" if torch.cuda.is_available() else "cpu")
    device = Device(name if tuning.parallel is None else parallel.device_of(name))
    device.adopt()
    return device


def _load(name: str, model: str, tuning: Tuning, device: Device) -> tuple[Family, Any]:
    hub.check(model, tuning.revision, INDEXES)
    _warn_if_unpinned(model, tuning.revision, "REVISION")
    if tuning.lora is not None:
        _warn_if_unpinned(tuning.lora, tuning.lora_revision, "LORA_REVISION")
    for module in tuning.loras:
        _warn_if_unpinned(module.path, module.revision, "LORAS")
    name, pipeline_class = _family_name(name, model, tuning.revision)
    family: Family | None = importlib.import_module(DIFFUSION[name][0]).FAMILY if name in DIFFUSION else None
    dtype = tune.dtype(tuning, device)
    if not device.is_cuda and "OMP_NUM_THREADS" not in os.environ:
        # One core is left for the service and the codecs: torch's threads synchronise at every layer, so a core taken from one
        # of them stalls all (measured: up to thirty times slower).
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    allow_image_only_processors()
    log.info("loading %s (%s) on %s as %s", model, name, device.device, dtype)
    if family is None:
        pipe = _load_any(pipeline_class, model, dtype, tuning.revision)
        return generic.family_for(pipe), pipe
    load = family.load or _from_pretrained
    return family, load(model, dtype, tuning.revision)


def _load_any(pipeline_class: str, model: str, dtype: torch.dtype, revision: str | None) -> Any:
    """A pipeline of any class of diffusers, also of blocks."""
    known = family_of(pipeline_class)
    load = importlib.import_module(DIFFUSION[known][0]).FAMILY.load if known else None
    if load is not None:
        return load(model, dtype, revision)
    found = getattr(diffusers, pipeline_class, None)
    if found is None:
        raise ValueError(
            f"{model} is a {pipeline_class}, which diffusers {diffusers.__version__} does not have: install one that has it"
        )
    if not issubclass(found, ModularPipeline):
        return _from_pretrained(model, dtype, revision)
    pipe = ModularPipeline.from_pretrained(model, revision=revision)
    # A component that cannot be loaded is a warning to diffusers; `generic.family_for` refuses the pipeline then.
    pipe.load_components(dtype=dtype)
    return pipe


def _from_pretrained(model: str, dtype: torch.dtype, revision: str | None) -> Any:
    return DiffusionPipeline.from_pretrained(model, dtype=dtype, revision=revision)


def _warn_if_unpinned(model: str, revision: str | None, setting: str) -> None:
    if revision is None and not Path(model).exists():
        log.warning("%s may change on the hub: give EDITTHINKER_EDITOR_%s the commit that you tested", model, setting)


def serve(
    family: Family, pipe: Any, device: Device, tuning: Tuning, end: Callable[[], None] | None = None
) -> InterleavedPipeline:
    """Tune a loaded pipeline and make it an `InterleavedPipeline`, whose shutdown calls ``end``."""
    _check_vae(pipe)
    if family.on_load is not None:
        family = family.on_load(pipe)
    pixels = tuning.pixels or family.pixels
    # At the native area too: another pipeline of this class may have been loaded at a different one.
    if family.rescale is not None:
        family.rescale(type(pipe), pixels)
        if family.inpainting is not None:
            family.rescale(family.inpainting.pipeline, pixels)
    if any(module.name == (tuning.served_name or family.name) for module in tuning.loras):
        raise ValueError(f"a LoRA is called {tuning.served_name or family.name}, as the model is; give it another name")
    tuning, report = _at_speed(family, pipe, device, tuning)
    loras = tune.apply(family, pipe, device, tuning)
    family = tune.with_few_steps(family, tuning)
    family = replace(family, capabilities=replace(family.capabilities, speed=report))
    pipe.set_progress_bar_config(disable=True)
    options = Options(
        pixels,
        encoder_cache_bytes=tuning.encoder_cache_bytes,
        name=tuning.served_name,
        caching=tuning.cache is not None,
        compiled=tuning.compile is not None,
        split=tuning.parallel is not None,
        exclusive=tuning.offload == "model",
        collations=tune.collations(family, tuning),
        loras=loras,
        overlap=tune.overlap(tuning, device),
        end=end,
    )
    return InterleavedPipeline(family, pipe, device, options)


def _check_vae(pipe: Any) -> None:
    """Refuse a VAE that the pipeline (SDXL's kind) casts to float32 and back around each use: other edits use it in between, and
    one that fails there leaves it cast.
    """
    vae = getattr(pipe, "vae", None)
    if hasattr(pipe, "upcast_vae") and vae is not None and vae.dtype == torch.float16 and vae.config.force_upcast:
        raise ValueError("this model's VAE overflows in float16; choose bfloat16 or float32 as dtype")


def _at_speed(family: Family, pipe: Any, device: Device, tuning: Tuning) -> tuple[Tuning, SpeedReport]:
    """The tuning that the preset leads to, which is logged."""
    model = getattr(pipe, family.denoiser)
    tuning, report = speed.preset(tuning, family, speed.abilities(family, model, device, tuning))
    applied = ", ".join(f"{name} {value}" for name, value in report.applied.items()) or "nothing"
    log.info("speed %s: %s applied%s", report.preset, applied, "".join(f"; no {each}" for each in report.left_out))
    return tuning, report


def _family_name(name: str, model: str, revision: str | None) -> tuple[str, str]:
    """The family to serve a model as, and its pipeline class."""
    try:
        index = DiffusionPipeline.load_config(model, revision=revision)
    except OSError:
        # Models of blocks alone have another index; a model that has neither is reported as without the usual one.
        try:
            index = ModularPipeline.load_config(model, revision=revision)
        except OSError:
            index = None
        if index is None:
            raise
    pipeline_class = str(index.get("_class_name"))
    found = family_of(pipeline_class)
    if name == GENERIC:
        return name, pipeline_class
    if found is None:
        known = ", ".join(f"{family} ({', '.join(classes)})" for family, (_, classes) in sorted(DIFFUSION.items()))
        raise ValueError(
            f"{model} is a {pipeline_class}, which no family serves; try --pipeline {GENERIC}, or one of the known: {known}"
        )
    if name not in {found, AUTO}:
        raise ValueError(f"{model} is a {pipeline_class}, which {found} serves, not {name}")
    return found, pipeline_class


def allow_image_only_processors() -> None:
    """Let Qwen-VL's processors load without torchvision, which it needs for videos alone (transformers 5)."""
    if is_torchvision_available():
        return
    processors: tuple[Any, ...] = (transformers.Qwen2VLProcessor, transformers.Qwen3VLProcessor)
    for processor in processors:
        processor.get_attributes = classmethod(lambda _: ["image_processor", "tokenizer"])
