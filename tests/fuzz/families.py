"""The families that are fuzzed: a worker's pipeline with random weights, and one like it that serves nothing."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from services.editor.pipelines import EditJob, SingleStepPipeline
from services.editor.pipelines.base import EditResult
from services.editor.pipelines.diffusion import inpainting
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.generic import family_for
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.diffusion.rescaling import working_area
from services.editor.pipelines.registry import DIFFUSION, EMBEDDED
from services.editor.pipelines.tuning import Tuning
from services.embedded.editor import ClassicalPipeline
from tests.component.diffusion.test_omnigen2 import PipelineDouble
from tests.fuzz.worker import Report, fuzzed
from tests.tiny import BUILDERS, UNKNOWN

PIXELS = 64 * 64
"""The working area."""
_CACHE_BYTES = 4 << 20
_BUILDERS: dict[str, Callable[[], Any]] = {**BUILDERS, "omnigen2": PipelineDouble}
NAMES = (*sorted(_BUILDERS), EMBEDDED)


@dataclass(frozen=True)
class _Alone:
    """Makes a job's picture with the plain pipeline's own call."""

    family: Family
    pipe: Any
    service: InterleavedPipeline

    def __call__(self, job: EditJob) -> Image.Image:
        prepared = self.service.prepare(job)
        pipe = self.pipe
        if job.mask is not None and self.family.inpainting is not None:
            pipe = inpainting.of_components(self.family.inpainting.pipeline, pipe)
        area = self.family.area(job, PIXELS)
        if self.service._loras is not None:
            self.service._loras.select(job.lora)
        # Where the service only scales a source early, the plain pipeline gets it as it was sent.
        as_sent = job.mask is None and job.size is None and job.image.mode == "RGB" and not job.references
        arguments = self.family.arguments(job if as_sent else prepared, area)
        working_area.set(area)
        with torch.no_grad():
            generator = torch.Generator("cpu").manual_seed(job.seed)
            picture = pipe(**arguments, generator=generator, output_type="pt", return_dict=False)[0][0]
        return self.service.finish(prepared, EditResult(Device("cpu").to_image(picture))).image


async def fuzz(name: str, *, edits: int, seed: int, generic: bool = False, **options: Any) -> Report:
    """Send random requests to a worker of a family.

    Args:
        name: of `NAMES`.
        edits: how many requests.
        seed: decides them.
        generic: serve it as a pipeline that no family knows.
        options: of `Tuning`.
    """
    if name == EMBEDDED:
        alone = SingleStepPipeline(ClassicalPipeline())

        def edited(job: EditJob) -> Image.Image:
            return alone.finish(job, ClassicalPipeline().edit(alone.prepare(job))).image

        return await fuzzed(lambda: SingleStepPipeline(ClassicalPipeline()), edited, edits=edits, seed=seed, aspect=math.inf)
    tuning = Tuning(device="cpu", pixels=PIXELS, encoder_cache_bytes=_CACHE_BYTES, **options)

    def build() -> InterleavedPipeline:
        pipe = {**_BUILDERS, **UNKNOWN}[name]()
        family = family_for(pipe) if generic else importlib.import_module(DIFFUSION[name][0]).FAMILY
        return serve(family, pipe, Device("cpu"), tuning)

    reference = build()
    plain = _Alone(reference._family, reference._pipe, reference)
    aspects = [reference._family.aspect(int(PIXELS * share)) for share in (1, reference._family.draft_area)]
    return await fuzzed(build, plain, edits=edits, seed=seed, aspect=aspects[0], draft_aspect=aspects[1])
