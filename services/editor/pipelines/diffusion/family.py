"""What a diffusion family has to say for itself. A new one is a module that makes such an object, and a line in the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from services.editor.pipelines.base import Capabilities, EditJob
from services.editor.pipelines.diffusion.calls import How
from services.editor.pipelines.diffusion.sizes import Size

NATIVE_PIXELS = 1024 * 1024
"""The area that today's editors were trained at."""


@dataclass(frozen=True, slots=True)
class Working:
    """How the worker was configured, as far as it shapes the pipelines' arguments. ``pixels``: the area to work at."""

    pixels: int


Arguments = Callable[[EditJob, Working], dict[str, Any]]
"""The keyword arguments of the pipeline's call for a job (without generator and output type)."""

ToVae = Callable[[Any, torch.Tensor, Size], torch.Tensor]
"""A pipeline's latents of an edit of a size, as they stand in its loop, in the form that its VAE decodes."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of editing model in diffusers.

    Attributes:
        name: what the service calls it.
        capabilities: parameters with their published defaults and ranges.
        arguments: job to keyword arguments of the pipeline.
        hows: how the arguments of the denoiser's calls are batched; what is not named keeps a call alone.
        size: the size of the picture that the pipeline returns for a job.
        reduced: the size that the pipeline brings a source to before it does anything else with it, so that larger ones can be
            brought to it early; None where it uses the source at several sizes.
        pixels: the area it was trained at.
        denoiser: the pipeline's attribute that is called at every step.
        remembers: methods of the pipeline whose results depend on text and source alone.
        to_vae: latents for previews; None if there are none.
        calls_a_step: calls of the denoiser for each step, given the job's parameters.
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
    arguments: Arguments
    hows: Mapping[str, How]
    size: Callable[[EditJob, Working], Size]
    reduced: Callable[[EditJob, Working], Size] | None = None
    pixels: int = NATIVE_PIXELS
    denoiser: str = "transformer"
    remembers: tuple[str, ...] = ("encode_prompt", "_encode_vae_image")
    to_vae: ToVae | None = None
    calls_a_step: Callable[[EditJob], int] = field(default=lambda _: 1)
    rescale: Callable[[type, int], None] | None = None
    caches: frozenset[str] = frozenset({"first_block", "taylorseer"})
    licence: str = ""
    load: Callable[[str, torch.dtype], Any] | None = None
    on_load: Callable[[Any], Family] | None = None

    def value(self, job: EditJob, parameter: str) -> float:
        """A parameter's value for a job: the caller's, or the published default."""
        return job.parameters.get(parameter, self.capabilities.parameters[parameter].default)

    def steps(self, job: EditJob) -> int:
        """Denoise steps of a job."""
        return int(self.value(job, "num_inference_steps"))
