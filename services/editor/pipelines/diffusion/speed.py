"""Speed presets: what ``exact``, ``fast`` and ``turbo`` mean for a family on a device.

``exact`` is plain diffusers to rounding. ``fast`` adds the best attention kernel, regional compilation, and fp8 arithmetic where
the family holds it. ``turbo`` adds a step cache. A preset fills only what the operator left open.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.editor.pipelines.base import SpeedReport
from services.editor.pipelines.diffusion import attention
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.tuning import OFF, Tuning

_FP8 = (8, 9)
"""The compute capability from which tensor cores multiply fp8 (Ada)."""
_CACHES = ("first_block", "taylorseer")
_FEWEST_STEPS = 12
"""With fewer steps a cache has little to skip, and distilled models change much from step to step."""
_KNOBS = ("attention", "compile", "quantization", "cache")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device, a model and the installed packages can do together.

    Attributes:
        capability: the compute capability of a CUDA device; None for others.
        attention: the fastest attention backend that works; None where the model has no choice, or is not asked.
        compiler: whether ``inductor`` generates kernels for the device without a long build.
        blocks: whether the model names its repeated blocks, which are what is compiled.
        torchao: whether torchao is installed.
    """

    capability: tuple[int, int] | None = None
    attention: str | None = None
    compiler: bool = False
    blocks: bool = True
    torchao: bool = False


class LeftOutError(Exception):
    """A preset does not apply one of its options here, because of this."""


def abilities(family: Family, model: Any, device: Device, tuning: Tuning) -> Abilities:
    """The abilities of a loaded model's device. Attention backends are tried only where a preset chooses one."""
    masked = family.masked or Collation.MASK in family.collations.values()
    best = None
    if tuning.speed != "exact" and tuning.attention is None:
        best = attention.best(model, device, masked=masked, split=tuning.parallel is not None)
    return Abilities(
        capability=device.capability,
        attention=best,
        compiler=device.is_cuda and importlib.util.find_spec("triton") is not None,
        blocks=bool(getattr(model, "_repeated_blocks", None)),
        torchao=importlib.util.find_spec("torchao") is not None,
    )


def preset(tuning: Tuning, family: Family, able: Abilities) -> tuple[Tuning, SpeedReport]:
    """The tuning with what its preset adds, and a report. What the operator chose stays; ``off`` becomes None."""
    chosen = tuning
    left_out: list[str] = []
    # In this order: blocks with a cache are not compiled, and fp8 gains only where they are.
    for knob, choose in _presets(tuning.speed).items():
        if getattr(chosen, knob) is not None:
            continue
        try:
            choice: dict[str, Any] = {knob: choose(chosen, family, able)}
        except LeftOutError as exc:
            left_out.append(f"{knob}: {exc}")
        else:
            chosen = replace(chosen, **choice)
    off: dict[str, Any] = {knob: None for knob in _KNOBS if getattr(chosen, knob) == OFF}
    chosen = replace(chosen, **off)
    applied = {knob: getattr(chosen, knob) for knob in _KNOBS if getattr(chosen, knob) is not None}
    return chosen, SpeedReport(tuning.speed, applied, tuple(left_out))


def _presets(speed: str) -> Mapping[str, Callable[[Tuning, Family, Abilities], str]]:
    if speed == "exact":
        return {}
    fast = {"attention": _attention, "compile": _compile, "quantization": _quantization}
    return {"cache": _cache, **fast} if speed == "turbo" else fast


def _attention(_: Tuning, family: Family, able: Abilities) -> str:
    if able.attention is None:
        raise LeftOutError(f"{family.name} has no choice of backends")
    return able.attention


def _cache(tuning: Tuning, family: Family, _: Abilities) -> str:
    kind = next((kind for kind in _CACHES if kind in family.step_caches), None)
    if kind is None:
        raise LeftOutError(f"{family.name} works with none")
    steps = tuning.few_steps or family.capabilities.parameters["num_inference_steps"].default
    if steps < _FEWEST_STEPS:
        raise LeftOutError(f"{steps:g} steps leave little to skip")
    if tuning.parallel is not None:
        raise LeftOutError("each process would decide on its own what to skip")
    return kind


def _quantization(tuning: Tuning, family: Family, able: Abilities) -> str:
    if able.capability is None or able.capability < _FP8:
        raise LeftOutError("the device does not multiply fp8")
    if not family.fp8:
        raise LeftOutError(f"{family.name} is not known to hold fp8")
    if not able.torchao:
        raise LeftOutError("torchao is not installed")
    if tuning.compile in {None, OFF}:
        # Else each layer scales its input in kernels of its own, which cost more than the product saves (torchao's docs).
        raise LeftOutError("it gains only in compiled blocks")
    return "float8dq"


def _compile(tuning: Tuning, family: Family, able: Abilities) -> str:
    if tuning.cache not in {None, OFF}:
        raise LeftOutError("blocks with a step cache are not compiled")
    if tuning.loras:
        raise LeftOutError("blocks would be compiled again for each of the LoRAs by request")
    if not able.blocks:
        raise LeftOutError(f"{family.name} does not name its repeated blocks")
    if not able.compiler:
        raise LeftOutError("there is no GPU with Triton")
    if tuning.offload is not None or tuning.parallel is not None:
        raise LeftOutError("weights are offloaded" if tuning.parallel is None else "passes are split over processes")
    return "inductor"


def check(tuning: Tuning, model: Any, device: Device) -> None:
    """Refuse at start what could only fail later.

    Raises:
        ValueError: for options that cannot work here, with the remedy.
    """
    kind = tuning.quantization
    if kind not in {None, "fp8"} and importlib.util.find_spec("torchao") is None:
        raise ValueError(f"quantization {kind} needs torchao, which is not installed; install it, or use fp8")
    if kind == "float8dq" and (device.capability is None or device.capability < _FP8):
        raise ValueError("quantization float8dq needs a GPU of compute capability 8.9 or later; use fp8, or leave it out")
    if tuning.compile is not None and not getattr(model, "_repeated_blocks", None):
        raise ValueError(f"{type(model).__name__} does not name its repeated blocks, which compile needs; leave compile out")
    if tuning.compile is not None and tuning.cache is not None:
        raise ValueError("compile does not work with a step cache (diffusers 0.42); leave one of them out")
    if tuning.parallel is not None and tuning.cache is not None:
        raise ValueError("a step cache does not work with parallel: each process would skip on its own; leave one of them out")
    if tuning.parallel is not None and tuning.offload is not None:
        raise ValueError("parallel splits passes of models on devices; leave offload out")
