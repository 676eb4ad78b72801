"""The plain diffusers pipeline: the baseline, in time and in pixels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from benchmarks.editing.trace import SIZES, Request
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.kontext import FAMILY

WORKING_PIXELS = SIZES[0][0] * SIZES[0][1]
_LISTED = ("image", "prompt", "negative_prompt")  # the arguments that a list of requests gives one each of


class Plain:
    """Calls the pipeline directly.

    Args:
        pipe: a Kontext pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._device = Device("cpu")

    def edit(self, requests: Sequence[Request]) -> list[Image.Image]:
        """The pictures of one request, or of several of one kind as one list."""
        jobs = [request.job() for request in requests]
        each = [FAMILY.arguments(job, WORKING_PIXELS) for job in jobs]
        generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
        arguments, generator = each[0], generators[0] if len(each) == 1 else generators
        if len(each) > 1:
            lists = {name: [one[name] for one in each] for name in _LISTED}
            lists["negative_prompt"] = lists["negative_prompt"] if requests[0].negative else None  # type: ignore[assignment]
            arguments = arguments | lists
        pictures = self._pipe(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        return [self._device.to_image(one) for one in pictures]

    def timed(self, request: Request) -> tuple[Image.Image, float]:
        """A request's picture, and the seconds it takes alone."""
        start = time.perf_counter()
        (made,) = self.edit([request])
        return made, time.perf_counter() - start
