"""Edits with a mask: the inpaint pipelines of diffusers, and the source's own pixels where the mask is closed."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion import inpainting
from services.editor.pipelines.registry import DIFFUSION
from services.errors import ApiError
from services.imaging import masks
from tests.component.diffusion.test_families import family_of, finished, served
from tests.parity import WORKING_PIXELS, Bench, difference, picture
from tests.tiny import flux2_klein as tiny_klein
from tests.unit.editor import workers

MASKED = ("flux2-klein", "kontext", "qwen-image-edit")
CLOSE = 1e-6


def mask(size: tuple[int, int], opened: tuple[int, int, int, int] | None = None) -> Image.Image:
    """Opaque, and transparent in the box (left, top, right, bottom); without one, in the right half."""
    made = Image.new("RGBA", size, (0, 0, 0, 255))
    made.paste((0, 0, 0, 0), opened or (size[0] // 2, 0, *size))
    return made


def job(place: int, of: tuple[int, int] = (64, 64), **changes: object) -> EditJob:
    made = EditJob(
        picture(place, of),
        f"edit {place}",
        seed=place,
        source=str(place),
        mask=mask(of),
        parameters={"num_inference_steps": 3 + place % 2},
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of a job


class InpaintBench(Bench):
    """Its plain pipeline is diffusers' inpaint class for jobs with a mask."""

    def expected(self, job: EditJob) -> torch.Tensor:
        assert self.family.inpainting is not None
        plain, inpaint = self.plain, inpainting.of_components(self.family.inpainting.pipeline, self.plain)
        try:
            self.plain = plain if job.mask is None else inpaint
            return super().expected(job)
        finally:
            self.plain = plain


def test_families_with_an_inpaint_pipeline_say_so_and_no_others() -> None:
    for name in DIFFUSION:
        family = family_of(name)
        assert family.capabilities.mask == (family.inpainting is not None) == (name in MASKED)


@pytest.mark.parametrize("name", MASKED)
def test_edits_with_and_without_masks_run_together_as_the_plain_pipelines_would(name: str) -> None:
    bench = InpaintBench(name)
    jobs = [job(1), replace(job(1), mask=mask((64, 64), (0, 0, 64, 20))), replace(job(1), mask=None), job(2), job(3)]
    alone = [bench.alone(bench.pipeline.prepare(each)) for each in jobs]
    mixed, together = bench.mixed(list(map(bench.pipeline.prepare, jobs)))
    expected = [bench.expected(each) for each in jobs]
    assert list(map(difference, alone, expected)) == [0] * 5
    assert max(map(difference, mixed, expected)) <= CLOSE
    assert together > 1
    assert len({found.numpy().tobytes() for found in alone}) == 5


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("size", [(64, 64), (300, 200), (90, 260)])
def test_the_source_stays_where_the_mask_is_closed(name: str, size: tuple[int, int]) -> None:
    pipeline = served(name)
    wanted = job(5, size)
    edit = finished(pipeline, wanted)
    assert edit.error is None and edit.result is not None
    result = pipeline.finish(edit.job, edit.result).image
    assert result.size == size
    assert wanted.mask is not None
    before, after = np.asarray(wanted.image), np.asarray(result)
    assert np.array_equal(before[:, : size[0] // 2], after[:, : size[0] // 2])
    assert np.abs(before[:, size[0] // 2 :].astype(int) - after[:, size[0] // 2 :]).mean() > 10
    outside = masks.outside(wanted.image, wanted.mask, result)
    assert outside is not None
    assert (outside.changed, outside.difference) == (0, 0)


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("wanted", [(32, 48), (128, 128), (9000, 2), (2, 9000), (1, 1)])
def test_another_size_crops_source_and_mask_alike(name: str, wanted: tuple[int, int]) -> None:
    pipeline = served(name)
    edit = finished(pipeline, job(4, (120, 80), size=wanted))
    assert edit.error is None and edit.result is not None
    assert edit.job.mask is not None and edit.job.original is not None
    assert edit.job.mask.size == edit.job.original.size
    assert edit.result.image.size == family_of(name).result_size(edit.job, WORKING_PIXELS)
    assert pipeline.finish(edit.job, edit.result).image.size == wanted


@pytest.mark.parametrize("name", MASKED)
def test_the_mask_decides_what_is_made(name: str) -> None:
    bench = InpaintBench(name)
    one, other = job(1), replace(job(1), mask=mask((64, 64), (0, 0, 32, 32)))
    assert difference(bench.alone(bench.pipeline.prepare(one)), bench.alone(bench.pipeline.prepare(other))) > 1e-2


@pytest.mark.parametrize("name", MASKED)
def test_a_preview_of_a_masked_edit_is_made(name: str) -> None:
    pipeline = served(name)
    edit = pipeline.open(pipeline.prepare(job(1, (100, 60), previews=1)))
    shown = []
    while edit.result is None and edit.error is None:
        pipeline.advance([edit])
        shown += [edit.preview] if edit.preview is not None else []
        edit.preview = None
    assert edit.error is None
    assert len(shown) == 1


def test_a_base_klein_is_guided_in_its_opening_too() -> None:
    from services.editor.pipelines import flux2_klein  # noqa: PLC0415
    from services.editor.pipelines.diffusion.device import Device  # noqa: PLC0415
    from services.editor.pipelines.diffusion.loading import serve  # noqa: PLC0415
    from services.editor.pipelines.tuning import Tuning  # noqa: PLC0415

    tuning = Tuning(device="cpu", pixels=WORKING_PIXELS)
    pipeline = serve(flux2_klein.FAMILY, tiny_klein.build(distilled=False), Device("cpu"), tuning)
    edits = [finished(pipeline, job(1, parameters={"num_inference_steps": 2, "guidance_scale": scale})) for scale in (1.0, 4.0)]
    assert [edit.calls_done for edit in edits] == [edit.calls for edit in edits] == [2, 4]


def test_a_mask_with_references_is_refused_by_name() -> None:
    with pytest.raises(ApiError, match="flux2-klein takes a mask with one picture only; leave mask out") as caught:
        served("flux2-klein").prepare(job(1, references=(picture(2, (64, 64)),)))
    assert (caught.value.code, caught.value.param) == ("invalid_value", "mask")


async def test_a_worker_takes_a_mask_and_says_so() -> None:
    async with workers.running(lambda: served("kontext"), max_active=1) as app, workers.client(app) as http:
        card = (await http.get("/v1/models")).json()["data"][0]
        opened = BytesIO()
        mask((64, 64)).save(opened, "PNG")
        files = {"image": workers.png((64, 64)), "mask": opened.getvalue()}
        reply = await http.post("/v1/images/edits", data={"prompt": "x", "num_inference_steps": 1}, files=files)
    assert card["capabilities"]["mask"] is True
    assert reply.status_code == 200
