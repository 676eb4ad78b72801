"""The description of a diffusion family. A new family is a module with such an object, and a line in the registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from services.editor.pipelines.base import Capabilities, EditJob, Range
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.inpainting import Inpainting
from services.editor.pipelines.diffusion.sizes import Size
from services.editor.pipelines.diffusion.text_limit import Text
from services.errors import ApiError

NATIVE_PIXELS = 1024 * 1024
"""The training area of most editing models."""
_STEPS = "num_inference_steps"
_DISTILLED_STEPS = 16
"""Models that take at most so many steps were distilled for their number (klein 4, Turbo and Lightning 4 or 8, FLUX 3 16)."""

Arguments = Callable[[EditJob, int], dict[str, Any]]
"""The keyword arguments of the pipeline's call (without generator and output type) for a job that has every parameter."""

ToVae = Callable[[Any, torch.Tensor, Size], torch.Tensor | None]
"""Converts latents of an edit of a given size from the form of the pipeline's loop to the form its VAE decodes; None for latents
that it cannot convert, of which there is no preview."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of editing model in diffusers. ``pixels`` in signatures is the area to work at.

    Attributes:
        name: its name in the service.
        capabilities: parameters with their published defaults and ranges.
        call: job to keyword arguments of the pipeline.
        collations: how the arguments of the denoiser's calls are batched; a call with another argument is not batched.
        size: the size of the picture that the pipeline returns for a job.
        reduces: the size to which the pipeline scales a picture first of all, so that the service can scale larger ones early;
            None where it uses the source at several sizes.
        aspect: the largest aspect ratio of a source.
        guided_by: the parameter that enables classifier-free guidance above 1; None without such guidance.
        guided: parameters that have no effect without that guidance.
        pixels: the training area.
        draft_area: the area of a draft, as a share of the working area.
        denoiser: the pipeline's attribute that holds the transformer or U-Net.
        cached_methods: methods of the pipeline whose results depend on text and source alone, for the encoder cache.
        to_vae: latents for previews; None without previews.
        calls_a_step: calls of the denoiser for each step of a job that has every parameter.
        rescale: makes a pipeline class work at another area than its hard-coded one; None where the area is an argument.
        step_caches: caches between steps that its denoiser supports (diffusers 0.42).
        fp8: whether it is known to hold matrix products in fp8.
        masked: whether its denoiser attends with masks, also for a single edit.
        text: how its pipeline reads a prompt, and how many tokens of it; None: of any length.
        few_steps: values that a few-step LoRA's scheduler has in place of the model's own.
        inpainting: how it edits with a mask; None where it takes none.
        alpha: whether the pipeline takes and makes transparent pictures; otherwise they are put on white first.
        licence: of the published weights.
        load: loads a model (a folder or hub id, in a dtype, at a revision or None) that diffusers does not know; raises
            ``ValueError`` with the remedy when its requirements are not installed.
        on_load: adapts a loaded pipeline, and returns the family to serve it as, which may depend on its configuration; raises
            ``ValueError`` when it cannot be served as loaded.
    """

    name: str
    capabilities: Capabilities
    call: Arguments
    collations: Mapping[str, Collation]
    size: Callable[[EditJob, int], Size]
    reduces: Callable[[EditJob, int], Size] | None = None
    aspect: Callable[[int], float] = field(default=lambda _: math.inf)
    guided_by: str | None = None
    guided: frozenset[str] = frozenset()
    pixels: int = NATIVE_PIXELS
    draft_area: float = 1 / 4
    denoiser: str = "transformer"
    cached_methods: tuple[str, ...] = ("encode_prompt", "_encode_vae_image")
    to_vae: ToVae | None = None
    calls_a_step: Callable[[EditJob], int] = field(default=lambda _: 1)
    rescale: Callable[[type, int], None] | None = None
    step_caches: frozenset[str] = frozenset({"first_block", "taylorseer"})
    fp8: bool = False
    masked: bool = False
    text: Text | None = None
    few_steps: Mapping[str, Any] = field(default_factory=dict)
    inpainting: Inpainting | None = None
    alpha: bool = False
    licence: str = ""
    load: Callable[[str, torch.dtype, str | None], Any] | None = None
    on_load: Callable[[Any], Family] | None = None

    def completed(self, job: EditJob) -> EditJob:
        """The job with the family's defaults for parameters that it does not set."""
        defaults = {name: allowed.default for name, allowed in self.capabilities.parameters.items()}
        if job.draft:
            defaults[_STEPS] = _draft_steps(self.capabilities.parameters[_STEPS])
        return replace(job, parameters={**defaults, **job.parameters})

    def arguments(self, job: EditJob, pixels: int) -> dict[str, Any]:
        """The keyword arguments of the pipeline's call for a job, without generator and output type."""
        call = self.call if job.mask is None or self.inpainting is None else self.inpainting.call
        return call(self.completed(job), pixels)

    def result_size(self, job: EditJob, pixels: int) -> Size:
        """The size of the picture that the pipeline returns for a job, with or without a mask."""
        return (self.size if job.mask is None or self.inpainting is None else self.inpainting.size)(job, pixels)

    def steps(self, job: EditJob) -> int:
        """Denoise steps of a job: with ``strength``, that part of them."""
        parameters = self.completed(job).parameters
        return max(1, int(parameters[_STEPS] * parameters.get("strength", 1)))

    def area(self, job: EditJob, pixels: int) -> int:
        """The area to work at for a job."""
        return int(pixels * self.draft_area) if job.draft else pixels

    def reduced(self, job: EditJob, pixels: int) -> Size:
        """The size to which a source can be scaled early; its own if it must not be scaled."""
        return job.image.size if self.reduces is None else self.reduces(job, pixels)

    def check(self, job: EditJob, pixels: int) -> None:
        """Refuse a job that the pipeline would refuse, or part of which it would ignore.

        Raises:
            ApiError: ``invalid_image`` for a source that is too elongated, ``invalid_value`` for a parameter without effect, and
                for a mask with several pictures.
        """
        if job.mask is not None and job.references:
            message = f"{self.name} takes a mask with one picture only; leave mask out, or the further pictures"
            raise ApiError("invalid_value", message, param="mask")
        limit = self.aspect(pixels)
        sizes = [job.source_size or job.image.size, *(reference.size for reference in job.references)]
        for number, (width, height) in enumerate(sizes):
            if max(width, height) > limit * min(width, height):
                param = f"image[{number}]" if job.references else "image"
                message = f"{param} is {width}x{height}, but {self.name} takes at most {limit:.4g}:1; crop it, or pad it"
                raise ApiError("invalid_image", message, param=param)
        if self.guided_by is None or self.completed(job).parameters[self.guided_by] > 1:
            return
        for name in sorted(self.guided):
            if job.parameters.get(name, 1) > 1:
                needs = f"unless {self.guided_by} is above 1; send {self.guided_by}, or leave it out"
                raise ApiError("invalid_value", f"{name} has no effect for {self.name} {needs}", param=name)


def _draft_steps(steps: Range) -> float:
    """Half of the default steps, but those of a distilled model."""
    return max(steps.low, min(steps.default, _DISTILLED_STEPS), steps.default // 2)
