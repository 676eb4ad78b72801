"""A family made from a loaded pipeline's signature, for pipelines of diffusers that no family serves.

Only what the signature and the components say is used: its arguments by the names that diffusers gives them, its defaults, and
the component that denoises. Nothing is batched, because a call is batched only if each of its arguments is described; nothing is
cached, because an encoder may read more than its arguments; a mask and further pictures are refused.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ModularPipeline
from PIL import Image
from transformers import PreTrainedTokenizerBase

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family, ToVae
from services.editor.pipelines.diffusion.rescaling import rescale
from services.editor.pipelines.diffusion.sizes import Size, working_size
from services.editor.pipelines.diffusion.text_limit import Text
from services.editor.pipelines.registry import GENERIC
from services.imaging.shapes import scaled

_ONE, _SEVERAL = ("image",), ("images", "input_images")
"""Names of the source, alone or in a list. An edit has one picture: a list of ``image`` is one edit's in some pipelines, and many
edits' in others, and how many a model takes is not in its pipeline.
"""
_NEEDED = ("prompt", "num_inference_steps", "generator", "output_type", "return_dict")
_OTHER_PICTURES = ("mask_image", "control_image")
_DENOISERS = ("transformer", "unet")
_SCALES = ("guidance_scale", "true_cfg_scale", "image_guidance_scale", "strength")
_HIGHEST_SCALE, _MOST_STEPS = 30.0, 100
_STEPS = 50  # where the signature has no default
_CLASSIFIER_FREE = ("true_cfg_scale", "guidance_scale")
_CLIP_TOKENS = 77
_PREDICTING = {"FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DDIMScheduler"}
"""Schedulers from whose step the clean latents follow (`services.editor.pipelines.diffusion.progress`)."""


def family_for(pipe: Any) -> Family:
    """The family of a loaded pipeline. One of modular blocks becomes a subclass of its class, with the call that others have.

    Raises:
        ValueError: when it cannot be served, naming what it lacks or needs.
    """
    name = type(pipe).__name__
    _check_components(name, pipe)
    if isinstance(pipe, ModularPipeline):
        pipe.__class__ = type(name, (_BlocksInOne, type(pipe)), {})
    defaults = _defaults(name, pipe)
    source = next(taken for taken in (*_ONE, *_SEVERAL) if taken in defaults)
    parameters = _parameters(defaults)
    guidance = next((scale for scale in _CLASSIFIER_FREE if scale in parameters), None)
    negative = "negative_prompt" in defaults
    multiple = _multiple(pipe)
    denoiser = next(each for each in _DENOISERS if isinstance(getattr(pipe, each, None), torch.nn.Module))
    to_vae = _to_vae(pipe, denoiser)

    def size(job: EditJob, pixels: int) -> Size:
        """The requested or the source's shape, at most the working area, never scaled up."""
        return working_size(job.size or job.image.size, pixels, multiple)

    def arguments(job: EditJob, pixels: int) -> dict[str, Any]:
        width, height = size(job, pixels)
        # One of another shape than was asked for is cropped, and not stretched.
        first = scaled(job.image, (width, height)) if job.size else job.image.resize((width, height), Image.Resampling.LANCZOS)
        areas = {"height": height, "width": width, "max_area": width * height, "output_resolution": math.isqrt(pixels)}
        return {
            source: [first] if source in _SEVERAL else first,
            "prompt": job.prompt,
            **({"negative_prompt": _negative_prompt(job, guidance)} if negative else {}),
            **{scale: job.parameters[scale] for scale in parameters if scale != "num_inference_steps"},
            "num_inference_steps": int(job.parameters["num_inference_steps"]),
            **{area: value for area, value in areas.items() if area in defaults},
        }

    return Family(
        name=GENERIC,
        capabilities=Capabilities(
            negative_prompt=negative,
            negative_prompt_needs=guidance if negative else None,
            partial_images=0 if to_vae is None else 3,
            parameters=parameters,
        ),
        call=arguments,
        collations={},
        size=size,
        reduces=size,
        pixels=_native_pixels(pipe, defaults),
        denoiser=denoiser,
        cached_methods=(),
        to_vae=to_vae,
        rescale=rescale if hasattr(sys.modules[type(pipe).__module__], "calculate_dimensions") else None,
        step_caches=frozenset(),
        text=_text(pipe, defaults),
        licence="the model's",
    )


class _BlocksInOne:
    """Mixed into a modular pipeline: the call that other pipelines have."""

    def __call__(self, *, return_dict: bool = False, **inputs: Any) -> tuple[Any]:
        del return_dict
        return (super().__call__(output="images", **inputs),)  # type: ignore[misc]

    def set_progress_bar_config(self, **config: Any) -> None:
        """As the pipelines have it; the base class reaches the outermost blocks only."""
        waiting = [self.blocks]  # type: ignore[attr-defined]
        while waiting:
            block = waiting.pop()
            waiting += list(getattr(block, "sub_blocks", {}).values())
            if hasattr(block, "set_progress_bar_config"):
                block.set_progress_bar_config(**config)


def _check_components(name: str, pipe: Any) -> None:
    optional = getattr(pipe, "_optional_components", [])
    absent = sorted(each for each, component in pipe.components.items() if component is None and each not in optional)
    if absent:
        raise ValueError(f"{name} lacks the component {', '.join(absent)}: complete the model's folder")
    if not any(isinstance(getattr(pipe, each, None), torch.nn.Module) for each in _DENOISERS):
        raise ValueError(
            f"{name} has no {' and no '.join(_DENOISERS)}, so that its steps cannot be interleaved: it needs a family"
        )
    if not hasattr(getattr(pipe, "scheduler", None), "step"):
        raise ValueError(f"{name} has no scheduler whose steps could be counted: it needs a family")


def _defaults(name: str, pipe: Any) -> Mapping[str, Any]:
    """The arguments of the pipeline's call with their defaults.

    Raises:
        ValueError: when it lacks one that an edit has, or needs one that no edit has.
    """
    if isinstance(pipe, ModularPipeline):
        # Blocks take pictures of other kinds where they are given; they always return what is asked for.
        defaults = {each.name: each.default for each in pipe.blocks.inputs if each.name is not None} | {"return_dict": False}
        needed: list[str] = []
    else:
        signature = inspect.signature(type(pipe).__call__).parameters
        named = {key: each for key, each in signature.items() if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}}
        defaults = {key: each.default for key, each in named.items() if key != "self"}
        known = {*_ONE, *_SEVERAL, *_NEEDED, *_SCALES, "negative_prompt", "height", "width", "max_area", "output_resolution"}
        needed = [key for key, default in defaults.items() if default is inspect.Parameter.empty and key not in known]
        needed += [each for each in _OTHER_PICTURES if each in defaults]
    lacking = [each for each in _NEEDED if each not in defaults]
    if not any(each in defaults for each in (*_ONE, *_SEVERAL)):
        lacking.insert(0, "image")
    if lacking:
        raise ValueError(f"{name} is no pipeline that edits a picture by a text: its call takes no {', no '.join(lacking)}")
    if needed:
        raise ValueError(f"{name} takes {', '.join(needed)} too, which an edit by text has not: it needs a family")
    return defaults


def _parameters(defaults: Mapping[str, Any]) -> dict[str, Range]:
    """The ranges of what a caller may choose. A scale without a default has no effect in pipelines that leave it out."""
    told = defaults["num_inference_steps"]
    steps = told if isinstance(told, int) and told > 0 else _STEPS
    ranges = {"num_inference_steps": Range(1, max(_MOST_STEPS, 2 * steps), steps, whole=True)}
    for name in _SCALES:
        default = defaults.get(name)
        if isinstance(default, int | float):
            ranges[name] = Range(0, 1 if name == "strength" else max(_HIGHEST_SCALE, default), default)
    return ranges


def _negative_prompt(job: EditJob, guidance: str | None) -> str | None:
    """The caller's; else a space, as for Qwen, where ``true_cfg_scale`` would have no effect without one."""
    if guidance == "true_cfg_scale" and job.negative_prompt is None and job.parameters[guidance] > 1:
        return " "
    return job.negative_prompt


def _multiple(pipe: Any) -> int:
    """What divides the sides of an edit: the VAE's factor, patches of 2 x 2, and what the pipeline rounds pictures to."""
    factor = _number(pipe, "vae_scale_factor") or _number(pipe, "vae_scale_factor_spatial") or 8
    rounded = _number(getattr(getattr(pipe, "image_processor", None), "config", None), "vae_scale_factor") or 1
    return math.lcm(2 * factor, rounded)


def _number(owner: Any, name: str) -> int | None:
    value = getattr(owner, name, None)
    return value if isinstance(value, int) and value > 0 else None


def _native_pixels(pipe: Any, defaults: Mapping[str, Any]) -> int:
    """The area that the pipeline works at by default, as far as it says so."""
    width, height = defaults.get("width"), defaults.get("height")
    if isinstance(width, int) and isinstance(height, int):
        return width * height
    latents = _number(pipe, "default_sample_size")
    if latents is None and hasattr(pipe, "unet"):
        latents = _number(pipe.unet.config, "sample_size")
    factor = _number(pipe, "vae_scale_factor")
    return (latents * factor) ** 2 if latents and factor else NATIVE_PIXELS


def _text(pipe: Any, defaults: Mapping[str, Any]) -> Text:
    """How long a text the pipeline reads at most: ``max_sequence_length`` or its tokenizers' own limits. With a template it reads
    less. CLIP's next to a longer one gives the pooled embedding, and is not counted.
    """
    tokenizers = {name: each for name, each in pipe.components.items() if isinstance(each, PreTrainedTokenizerBase)}
    most = defaults.get("max_sequence_length")
    if not isinstance(most, int):
        return Text(tuple(tokenizers))
    longer = tuple(name for name, each in tokenizers.items() if each.model_max_length > _CLIP_TOKENS)
    return Text(longer or tuple(tokenizers), most if longer else None)


def _to_vae(pipe: Any, denoiser: str) -> ToVae | None:
    """How latents are decoded where a pipeline does as most: packed by FLUX's method or not at all, scaled as the VAE says."""
    vae: Any = getattr(pipe, "vae", None)
    kind = type(vae).__name__
    if type(pipe.scheduler).__name__ not in _PREDICTING:
        return None
    unpack = _unpacking(pipe)
    if kind == "AutoencoderKLQwenImage" and unpack:
        return _unpacked_frames
    if kind != "AutoencoderKL" or getattr(vae.config, "latents_mean", None) is not None:
        return None
    if unpack:
        return _unpacked
    channels = getattr(getattr(pipe, denoiser).config, "in_channels", None)
    plain = denoiser == "unet" or (channels == vae.config.latent_channels and not hasattr(pipe, "_pack_latents"))
    return _plain if plain else None


def _unpacking(pipe: Any) -> bool:
    method = getattr(type(pipe), "_unpack_latents", None)
    return method is not None and list(inspect.signature(method).parameters) == ["latents", "height", "width", "vae_scale_factor"]


def _plain(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor | None:
    del size
    config = pipe.vae.config
    if latents.ndim != 4 or latents.shape[1] != config.latent_channels:  # noqa: PLR2004 - (1, C, H, W)
        return None
    clean: torch.Tensor = latents / config.scaling_factor + (config.shift_factor or 0)
    return clean


def _unpacked(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor | None:
    flat = _at_size(pipe, latents, size)
    return None if flat is None else _plain(pipe, flat, size)


def _unpacked_frames(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor | None:
    frames, config = _at_size(pipe, latents, size), pipe.vae.config
    if frames is None or frames.shape[1] != len(config.latents_mean):
        return None
    mean, std = (
        torch.tensor(values, device=frames.device, dtype=frames.dtype).view(1, -1, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    return frames * std + mean


def _at_size(pipe: Any, latents: torch.Tensor, size: Size) -> torch.Tensor | None:
    """Packed latents (1, tokens, channels) as a picture's; None where the pipeline has chosen another size than was asked for."""
    patch = 2 * pipe.vae_scale_factor
    if latents.ndim != 3 or latents.shape[1] != (size[0] // patch) * (size[1] // patch):  # noqa: PLR2004
        return None
    unpacked: torch.Tensor = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)  # noqa: SLF001
    return unpacked
