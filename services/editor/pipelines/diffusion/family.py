"""What a diffusion family has to say for itself. A new one is a module that makes such an object, and a line in the registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from services.editor.pipelines.base import Capabilities, EditJob
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.sizes import Size
from services.errors import ApiError

NATIVE_PIXELS = 1024 * 1024
"""The area that today's editors were trained at."""


Arguments = Callable[[EditJob, int], dict[str, Any]]
"""The keyword arguments of the pipeline's call (without generator and output type) for a job that has every parameter."""

ToVae = Callable[[Any, torch.Tensor, Size], torch.Tensor]
"""A pipeline's latents of an edit of a size, as they stand in its loop, in the form that its VAE decodes."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of editing model in diffusers.

    Attributes:
        name: what the service calls it.
        capabilities: parameters with their published defaults and ranges.
        call: job to keyword arguments of the pipeline.
        collations: how the arguments of the denoiser's calls are batched; what is not named keeps a call alone.
        size: the size of the picture that the pipeline returns for a job.
        reduces: the size that the pipeline brings a source to before it does anything else with it, so that larger ones can be
            brought to it early; None where it uses the source at several sizes.
        aspect: how many times as long as the other one side of a source may be.
        guided_by: the parameter that classifier-free guidance needs above 1; None where there is no such guidance.
        guided: parameters that have no effect without it.
        pixels: the area it was trained at.
        denoiser: the pipeline's attribute that is called at every step.
        cached_methods: methods of the pipeline whose results depend on text and source alone.
        to_vae: latents for previews; None if there are none.
        calls_a_step: calls of the denoiser for each step of a job that has every parameter.
        rescale: makes a pipeline class work at another area than the one written down in its source; None where the area is an
            argument.
        caches: caches between steps that its denoiser works with (diffusers 0.42).
        licence: under which terms the published weights stand.
        load: loads a model (a folder or hub id, in a dtype) that diffusers itself does not know; raises ``ValueError`` with
            the remedy when what it takes is not installed.
        on_load: makes a loaded pipeline ready, and tells which family it is served as where its configuration says more than
            its class; raises ``ValueError`` when it cannot be served as it was loaded.
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
    denoiser: str = "transformer"
    cached_methods: tuple[str, ...] = ("encode_prompt", "_encode_vae_image")
    to_vae: ToVae | None = None
    calls_a_step: Callable[[EditJob], int] = field(default=lambda _: 1)
    rescale: Callable[[type, int], None] | None = None
    caches: frozenset[str] = frozenset({"first_block", "taylorseer"})
    licence: str = ""
    load: Callable[[str, torch.dtype], Any] | None = None
    on_load: Callable[[Any], Family] | None = None

    def completed(self, job: EditJob) -> EditJob:
        """The job with the family's defaults for every parameter that the caller left out."""
        defaults = {name: allowed.default for name, allowed in self.capabilities.parameters.items()}
        return replace(job, parameters={**defaults, **job.parameters})

    def arguments(self, job: EditJob, pixels: int) -> dict[str, Any]:
        """The keyword arguments of the pipeline's call for a job, without generator and output type."""
        return self.call(self.completed(job), pixels)

    def steps(self, job: EditJob) -> int:
        """Denoise steps of a job."""
        return int(self.completed(job).parameters["num_inference_steps"])

    def reduced(self, job: EditJob, pixels: int) -> Size:
        """The size that a source can be brought to early; its own where it must be left alone."""
        return job.image.size if self.reduces is None else self.reduces(job, pixels)

    def check(self, job: EditJob, pixels: int) -> None:
        """Refuse what the pipeline would refuse, or ignore.

        Raises:
            ApiError: ``invalid_image`` for a source that is too long, ``invalid_value`` for a parameter without effect.
        """
        width, height = job.source_size or job.image.size
        most = self.aspect(pixels)
        if max(width, height) > most * min(width, height):
            message = f"image is {width}x{height}, but {self.name} takes at most {most:.4g}:1; crop it, or pad it"
            raise ApiError("invalid_image", message, param="image")
        if self.guided_by is None or self.completed(job).parameters[self.guided_by] > 1:
            return
        for name in sorted(self.guided):
            if job.parameters.get(name, 1) > 1:
                needs = f"unless {self.guided_by} is above 1; send {self.guided_by}, or leave it out"
                raise ApiError("invalid_value", f"{name} has no effect for {self.name} {needs}", param=name)
