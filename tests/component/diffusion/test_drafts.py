"""Drafts and native sizes: what the plain pipeline draws at the lower area, and what it draws before anything is scaled."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.editor.engine.cost_model import CostModel
from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines import kontext
from services.editor.pipelines.base import EditJob, EditResult, Range
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.diffusion.sizes import Size, unstretched
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import Tuning
from services.imaging.codec import OutputFormat, encode
from services.imaging.shapes import nearly
from tests.parity import Recorder, picture
from tests.tiny import BUILDERS

PIXELS = 128 * 128
STEPS = {"num_inference_steps": 3}
OWN_AREA = {"instruct-pix2pix": 1.0, "instruct-pix2pix-xl": 4 / 9}


class Sizes:
    """A family at `PIXELS`, and its plain pipeline at any area."""

    def __init__(self, name: str, pixels: int = PIXELS) -> None:
        self.device = Recorder("cpu")
        family: Family = importlib.import_module(DIFFUSION[name][0]).FAMILY
        built = BUILDERS[name]()
        self.pipeline: InterleavedPipeline = serve(family, built, self.device, Tuning(device="cpu", pixels=pixels))
        self.family: Family = self.pipeline._family
        self.plain = BUILDERS[name]()
        if family.on_load is not None:
            family.on_load(self.plain)

    def expected(self, job: EditJob, pixels: int) -> torch.Tensor:
        if self.family.rescale is not None:
            self.family.rescale(type(self.plain), pixels)
        generator = torch.Generator().manual_seed(job.seed)
        arguments = self.family.arguments(job, pixels)
        images: Any = self.plain(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        made: torch.Tensor = images[0].float().cpu()
        return made

    def together(self, *jobs: EditJob) -> list[torch.Tensor]:
        edits = [self.pipeline.open(job) for job in jobs]
        for edit in edits:
            self.pipeline.advance([edit])
        while open_ := [edit for edit in edits if edit.result is None and edit.error is None]:
            for edit in open_:
                self.pipeline.advance([edit])
        return [self.device.exact(edit) for edit in edits]


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def sizes(request: pytest.FixtureRequest) -> Sizes:
    return Sizes(request.param)


def job(**changes: Any) -> EditJob:
    return replace(EditJob(picture(3, (160, 128)), "make it blue", seed=5, source="3", parameters=STEPS), **changes)


def test_a_draft_is_the_plain_pipelines_picture_at_its_area(sizes: Sizes) -> None:
    """Also together with an edit of the same source at the whole area, whose encodings are in the cache."""
    area = int(PIXELS * OWN_AREA.get(sizes.family.name, 1 / 4))
    whole, draft = sizes.together(job(), job(draft=True))

    assert torch.equal(draft, sizes.expected(job(), area))
    assert torch.equal(whole, sizes.expected(job(), PIXELS))
    assert draft.shape[1] * draft.shape[2] <= 1.3 * area  # sides are rounded
    assert torch.equal(sizes.together(job(draft=True))[0], draft)


def test_what_is_prepared_for_a_draft_is_edited_alike(sizes: Sizes) -> None:
    """A large source is scaled early, to the draft's size at once."""
    large = picture(3, (640, 512))
    prepared = sizes.pipeline.prepare(job(image=large, draft=True))
    assert torch.equal(sizes.together(prepared)[0], sizes.together(job(image=large, draft=True))[0])
    assert prepared.image.size == large.size or prepared.image.width * prepared.image.height <= 1.3 * PIXELS


def test_a_draft_has_half_the_steps_but_a_distilled_model_has_its_own(sizes: Sizes) -> None:
    steps = sizes.family.capabilities.parameters["num_inference_steps"].default
    wanted = steps if steps <= 16 else max(16, steps // 2)
    assert sizes.pipeline.open(job(draft=True, parameters={})).steps == wanted
    assert sizes.pipeline.open(job(parameters={})).steps == steps
    assert sizes.pipeline.open(job(draft=True)).steps == 3


@pytest.mark.parametrize(
    ("default", "low", "steps"), [(50, 2, 25), (28, 1, 16), (16, 1, 16), (8, 8, 8), (4, 1, 4), (100, 60, 60)]
)
def test_steps_of_a_draft(default: int, low: int, steps: int) -> None:
    family = importlib.import_module(DIFFUSION["kontext"][0]).FAMILY
    ranges = {**family.capabilities.parameters, "num_inference_steps": Range(low, 200, default, whole=True)}
    family = replace(family, capabilities=replace(family.capabilities, parameters=ranges))
    assert family.steps(job(draft=True, parameters={})) == steps


def test_a_draft_costs_what_its_area_costs(sizes: Sizes) -> None:
    sizes.together(job(), job(draft=True))
    draft, whole = sizes.pipeline.open(job(draft=True)), sizes.pipeline.open(job())
    if OWN_AREA.get(sizes.family.name) == 1.0:
        assert draft.cost == whole.cost
    else:
        assert draft.cost < whole.cost  # tokens of the text are the same


def test_the_warm_up_measures_a_smaller_area_than_a_drafts_or_the_drafts_own() -> None:
    longcat = Sizes("longcat-image-edit", 256 * 256)
    measured = warm_up(longcat.pipeline, OperatorLimits(active=2, batch=2))
    model: CostModel = measured.model
    assert not longcat.pipeline.capabilities.resize
    draft = longcat.pipeline.open(job(draft=True))
    assert len(model.knots) == 2 and model.knots[0].tokens <= draft.cost


def test_a_picture_of_native_size_is_the_pipelines(sizes: Sizes) -> None:
    asked = sizes.pipeline.prepare(job(image=picture(3, (640, 640)), native_size=True))
    edit = sizes.pipeline.open(asked)
    while edit.result is None:
        sizes.pipeline.advance([edit])
    native = sizes.pipeline.finish(asked, edit.result).image
    assert native is edit.result.image
    scaled = sizes.pipeline.finish(replace(asked, native_size=False), edit.result).image
    assert scaled.size == (640, 640)
    assert np.array_equal(np.asarray(scaled), np.asarray(native.resize((640, 640), Image.Resampling.LANCZOS)))


def test_a_picture_in_another_shape_than_the_sources_is_not_returned_stretched() -> None:
    """Kontext edits 8:1 at 7:3."""
    source = EditJob(Image.new("1", (4000, 500)), "x", native_size=True)
    made = Image.new("RGB", kontext.FAMILY.size(source, NATIVE_PIXELS))
    assert not nearly(made.size, source.image.size)
    pipeline = serve(kontext.FAMILY, BUILDERS["kontext"](), Recorder("cpu"), Tuning(device="cpu"))
    native = pipeline.finish(source, EditResult(made)).image
    assert nearly(native.size, (4000, 500)) and native.width * native.height == pytest.approx(made.width * made.height, rel=0.01)
    assert unstretched((1184, 880), (4000, 3000)) == (1184, 880)


@pytest.mark.parametrize("shape", [(600, 2), (2, 600), (5000, 1), (1, 30_000)])
@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_an_elongated_picture_of_native_size_fits_where_its_source_does(shape: Size, output_format: OutputFormat) -> None:
    """It was up to 88,681 pixels long, which JPEG cannot hold: the worker answered 500 after the edit."""
    made = kontext.FAMILY.size(EditJob(Image.new("1", shape), "x"), NATIVE_PIXELS)
    size = unstretched(made, shape)
    assert max(size) <= max(*made, *shape)
    if output_format == "jpeg" or max(shape) < 16_384:
        assert encode(Image.new("RGB", size), output_format)


def test_capabilities_tell_the_area_and_that_there_are_drafts(sizes: Sizes) -> None:
    assert sizes.pipeline.capabilities.native_pixels == PIXELS
    assert sizes.pipeline.capabilities.draft


@pytest.mark.parametrize("name", ["flux2-klein", "kontext", "qwen-image-edit"])
def test_with_a_mask_a_draft_has_the_source_where_it_is_closed(name: str) -> None:
    """At its own size: the source, scaled."""
    sizes = Sizes(name)
    source = picture(3, (256, 256))
    mask = Image.new("RGBA", source.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 128, 256))
    asked = sizes.pipeline.prepare(job(image=source, mask=mask, draft=True))
    edit = sizes.pipeline.open(asked)
    while edit.result is None:
        sizes.pipeline.advance([edit])
    draft = sizes.pipeline.finish(asked, edit.result).image
    assert draft.size == edit.result.image.size == (64, 64)
    scaled = np.asarray(source.resize(draft.size, Image.Resampling.LANCZOS))
    assert np.array_equal(np.asarray(draft)[:, 32:], scaled[:, 32:])
    assert not np.array_equal(np.asarray(draft)[:, :28], scaled[:, :28])
