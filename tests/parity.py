"""The difference between the pictures of interleaved edits and those of the plain diffusers pipelines.

``python -m tests.parity [NAME …]`` prints a Markdown table, one row a family, of the largest difference of any value of a
picture (0 … 1, before it is rounded to 8 bits):

    alone   one edit at a time
    mixed   edits of different prompts, steps, guidance, seeds and sizes together; one joins late, one is cancelled midway
    repeat  the same edit again, against itself
    after   an edit after a cancelled and a failed one, against a fresh pipeline's
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.generic import family_for
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import Tuning
from tests.tiny import BUILDERS, UNKNOWN

WORKING_PIXELS = 64 * 64
"""The working area of the tiny pipelines."""
_SCALES = ("true_cfg_scale", "guidance_scale", "image_guidance_scale")


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: the largest difference of two pictures that should be equal, and the largest batch."""

    check: str
    difference: float
    together: int = 1


class Recorder(Device):
    """A device that records each picture before it is rounded to 8 bits."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._seen: list[tuple[Image.Image, torch.Tensor]] = []

    def to_image(self, picture: torch.Tensor) -> Image.Image:
        image = super().to_image(picture)
        self._seen.append((image, picture.float().cpu()))
        return image

    def exact(self, edit: InterleavedEdit) -> torch.Tensor:
        """The picture (3, H, W) of a finished edit; raises what ended it, if it failed."""
        if edit.error is not None:
            raise edit.error
        assert edit.result is not None
        wanted = edit.result.image
        return next(picture for image, picture in self._seen if image is wanted)


class Bench:
    """A family's tiny pipeline twice: as diffusers runs it, and as the service does.

    Args:
        name: of `BUILDERS`, or of `UNKNOWN`, which no family serves.
        device: as torch names it.
        tuning: how it is run.
        overlap: run encoders and VAE on a thread of their own.
        generic: serve it as a pipeline that no family knows.
    """

    def __init__(
        self, name: str, device: str = "cpu", tuning: Tuning | None = None, *, overlap: bool = False, generic: bool = False
    ) -> None:
        self.device = Recorder(device)
        build = {**BUILDERS, **UNKNOWN}[name]
        built = build()
        self.plain = build().to(device)
        generic = generic or name in UNKNOWN
        # FLUX.2's pipelines refuse a side below 64, and without their family nothing keeps to that.
        self.pixels = 96 * 64 if generic else WORKING_PIXELS
        self._wide, self._tall = ((96, 64), (64, 96)) if generic else ((96, 48), (48, 64))
        if generic:
            family = family_for(built)
            family_for(self.plain)
            self.plain.set_progress_bar_config(disable=True)
        else:
            family = importlib.import_module(DIFFUSION[name][0]).FAMILY
        tuning = replace(tuning or Tuning(), device=device, pixels=self.pixels, overlap=overlap)
        self.pipeline: InterleavedPipeline = serve(family, built, self.device, tuning)
        # The family as loaded: defaults may depend on the model's configuration.
        self.family: Family = self.pipeline._family
        if family.on_load is not None:
            family.on_load(self.plain)

    def jobs(self) -> list[EditJob]:
        """Jobs that differ in everything the family lets a caller choose."""
        *jobs, last = (self._job(place) for place in range(5))
        # As the first one in all that a pass may need to be equal: the length of the text, guidance, steps and shape.
        twin = replace(jobs[0], image=picture(5, (64, 64)), prompt="make it pink", seed=6, source="5")
        return [*jobs, twin, last]

    def _job(self, place: int) -> EditJob:
        able = self.family.capabilities
        # In turn the published scale, no classifier-free guidance, and a weaker scale.
        chosen = {
            name: max(allowed.low, (allowed.default, 1.0, 1.0 + allowed.default / 2)[place % 3])
            for name, allowed in able.parameters.items()
            if name in _SCALES
        }
        needs = able.negative_prompt_needs
        if place == 2 and needs is not None:
            chosen[needs] = 2.5
        refused = able.negative_prompt and (needs is None or chosen[needs] > 1)
        return EditJob(
            picture(place, self._wide if place == 3 else (64, 64)),
            ("make it blue", "snow everywhere, please, thank you", "x", "brighter", "a hat")[place],
            seed=place + 1,
            negative_prompt="ugly" if refused and place != 0 else None,
            size=self._tall if place == 4 else None,
            parameters={**chosen, "num_inference_steps": 3 + place % 4},
            source=str(place),
        )

    def expected(self, job: EditJob) -> torch.Tensor:
        """The plain pipeline's picture (3, H, W) for a job."""
        generator = torch.Generator(self.device.generator).manual_seed(job.seed)
        arguments = self.family.arguments(job, self.pixels)
        images = self.plain(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        # Of a video the last frame.
        expected: torch.Tensor = images[0].float().cpu()
        return expected if expected.ndim == 3 else expected[-1]  # (C, H, W)

    def alone(self, job: EditJob) -> torch.Tensor:
        """The service's picture for a job that runs alone."""
        edit = self.pipeline.open(job)
        while edit.result is None and edit.error is None:
            self.pipeline.advance([edit])
        return self.device.exact(edit)

    def mixed(self, jobs: Sequence[EditJob]) -> tuple[list[torch.Tensor], int]:
        """The pictures of edits that run together, the last one joining late, and the size of the largest pass.

        Another edit runs with them, and is cancelled midway.
        """
        edits = [self.pipeline.open(job) for job in jobs]
        cancelled = self.pipeline.open(replace(jobs[0], prompt="never seen", seed=99))
        largest = 0
        running = [*edits[:-1], cancelled]
        self._start(running)
        for tick in range(1000):
            largest = max(largest, *map(len, _groups(running)))
            for group in _groups(running):
                self.pipeline.advance(group)
            if tick == 1:
                self.pipeline.close(cancelled)
                running.remove(cancelled)
                self._start(edits[-1:])
                running.append(edits[-1])
            running = [edit for edit in running if edit.result is None and edit.error is None]
            if not running:
                break
        return [self.device.exact(edit) for edit in edits], largest

    def upset(self, job: EditJob) -> Exception | None:
        """Cancel one edit midway, and let another's denoiser fail; the failure."""
        cancelled = self.pipeline.open(job)
        self._to_second_call(cancelled)
        self.pipeline.close(cancelled)
        failing = self.pipeline.open(job)
        self._to_second_call(failing)
        hook = getattr(self.plain_of_service, self.family.denoiser).register_forward_pre_hook(_fail)
        try:
            self.pipeline.advance([failing])
        finally:
            hook.remove()
        return failing.error

    def _to_second_call(self, edit: InterleavedEdit) -> None:
        while edit.calls_done < 1 or edit.pending is not None:
            self.pipeline.advance([edit])

    @property
    def plain_of_service(self) -> Any:
        """The pipeline whose models the service uses."""
        return self.pipeline._pipe

    def _start(self, edits: Iterable[InterleavedEdit]) -> None:
        for edit in edits:
            self.pipeline.advance([edit])


@contextlib.contextmanager
def small_sources() -> Iterator[None]:
    """Kontext's own sizes are small ones: without its family the pipeline scales every source to one of them."""
    module = importlib.import_module("diffusers.pipelines.flux.pipeline_flux_kontext")
    with mock.patch.object(module, "PREFERRED_KONTEXT_RESOLUTIONS", [(64, 64), (96, 64), (64, 96)]):
        yield


def _fail(*_: object) -> None:
    raise ValueError("a picture that the model cannot take")


def _groups(edits: Iterable[InterleavedEdit]) -> list[list[InterleavedEdit]]:
    """As the executor would advance them."""
    groups: dict[Hashable, list[InterleavedEdit]] = {}
    for edit in edits:
        groups.setdefault(edit.number if edit.group is None else edit.group, []).append(edit)
    return list(groups.values())


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two pictures' values; infinite for pictures of different sizes."""
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


def measure(name: str, device: str = "cpu", *, overlap: bool = False, generic: bool = False) -> list[Row]:
    """All four checks of one family, or of its pipeline served as one that no family knows."""
    with torch.no_grad(), small_sources() if generic else contextlib.nullcontext():
        bench = Bench(name, device, overlap=overlap, generic=generic)
        jobs = bench.jobs()
        expected = [bench.expected(job) for job in jobs]
        alone = [bench.alone(job) for job in jobs]
        mixed, together = bench.mixed(jobs)
        repeated = bench.alone(jobs[0])
        if bench.upset(jobs[1]) is None:
            raise AssertionError("the edit that was made to fail did not")
        after, fresh = bench.alone(jobs[2]), Bench(name, device, overlap=overlap, generic=generic).alone(jobs[2])
    return [
        Row("alone", max(map(difference, alone, expected))),
        Row("mixed", max(map(difference, mixed, expected)), together),
        Row("repeat", difference(repeated, alone[0])),
        Row("after", difference(after, fresh)),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    known = f"of {', '.join(sorted(BUILDERS))}; all if none; with --generic of {', '.join(sorted(UNKNOWN))} too"
    parser.add_argument("names", nargs="*", metavar="NAME", help=known)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overlap", action="store_true", help="encoders and VAE on a thread of their own")
    parser.add_argument("--generic", action="store_true", help="serve each as a pipeline that no family knows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write("| family | alone | mixed (largest pass) | repeat | after |\n|---|---|---|---|---|\n")
    every = sorted({**BUILDERS, **UNKNOWN} if arguments.generic else BUILDERS)
    for name in arguments.names or every:
        alone, mixed, repeat, after = measure(name, arguments.device, overlap=arguments.overlap, generic=arguments.generic)
        cells = [f"{alone.difference:.1e}", f"{mixed.difference:.1e} ({mixed.together})"]
        cells += [f"{row.difference:.1e}" for row in (repeat, after)]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
