"""The kinds of FLUX.2 [klein] that test_parity does not cover: base and KV."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from services.editor.pipelines import flux2_klein, flux2_klein_kv
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.loading import load
from services.editor.pipelines.tuning import Tuning
from tests.parity import WORKING_PIXELS, Recorder, difference, picture
from tests.tiny import flux2_klein as tiny

CLOSE = 1e-5


def plain(pipe: Any, family: Family, job: EditJob) -> torch.Tensor:
    generator = torch.Generator().manual_seed(job.seed)
    images: torch.Tensor = pipe(
        **family.arguments(job, WORKING_PIXELS), generator=generator, output_type="pt", return_dict=False
    )[0]
    return images[0]


def job(place: int, **parameters: float) -> EditJob:
    return EditJob(picture(place, (64, 64)), f"edit {place}", seed=place, source=str(place), parameters=parameters)


def test_the_base_kind_has_guidance_and_more_steps_and_the_distilled_kind_refuses_it() -> None:
    tuning = Tuning(device="cpu", pixels=WORKING_PIXELS)
    base = serve(flux2_klein.FAMILY, tiny.build(distilled=False), Recorder("cpu"), tuning)
    distilled = serve(flux2_klein.FAMILY, tiny.build(), Recorder("cpu"), tuning)
    defaults = [
        {name: allowed.default for name, allowed in served.capabilities.parameters.items()} for served in (base, distilled)
    ]
    assert defaults == [{"num_inference_steps": 50, "guidance_scale": 4}, {"num_inference_steps": 4}]
    assert (base.open(job(1)).calls, distilled.open(job(1)).calls) == (100, 4)


def test_edits_of_the_base_kind_with_and_without_guidance_share_passes() -> None:
    device = Recorder("cpu")
    pipe = tiny.build(distilled=False)
    served = serve(flux2_klein.FAMILY, pipe, device, Tuning(device="cpu", pixels=WORKING_PIXELS))
    jobs = [job(1, num_inference_steps=2), job(2, num_inference_steps=3, guidance_scale=1)]
    edits = [served.open(each) for each in jobs]
    for edit in edits:
        served.advance([edit])
    assert edits[0].group is not None
    assert edits[0].group == edits[1].group
    while running := [edit for edit in edits if edit.result is None and edit.error is None]:
        served.advance(running)
    expected = [plain(tiny.build(distilled=False), flux2_klein.BASE, each) for each in jobs]
    assert max(map(difference, map(device.exact, edits), expected)) <= CLOSE


def test_interleaved_edits_keep_their_own_keys_and_values() -> None:
    device = Recorder("cpu")
    served = serve(flux2_klein_kv.FAMILY, tiny.build_kv(), device, Tuning(device="cpu", pixels=WORKING_PIXELS))
    jobs = [job(place, num_inference_steps=2 + place) for place in range(3)]
    edits, cancelled = [served.open(each) for each in jobs], served.open(job(9))
    for edit in (*edits, cancelled):
        served.advance([edit])
        assert edit.group is None
    for _ in range(2):
        served.advance([cancelled])
    while running := [edit for edit in edits if edit.result is None and edit.error is None]:
        for edit in running:
            served.advance([edit])
        served.close(cancelled)
    expected = [plain(tiny.build_kv(), flux2_klein_kv.FAMILY, each) for each in jobs]
    assert [difference(device.exact(edit), wanted) for edit, wanted in zip(edits, expected, strict=True)] == [0, 0, 0]


def test_references_are_among_the_keys_and_values() -> None:
    device = Recorder("cpu")
    served = serve(flux2_klein_kv.FAMILY, tiny.build_kv(), device, Tuning(device="cpu", pixels=WORKING_PIXELS))
    several = replace(job(1, num_inference_steps=2), references=(picture(5, (64, 64)), picture(6, (64, 64))))
    turned = replace(several, references=several.references[::-1])
    pictures = []
    for each in (several, turned):
        edit = served.open(each)
        while edit.result is None and edit.error is None:
            served.advance([edit])
        pictures.append(device.exact(edit))
        assert difference(pictures[-1], plain(tiny.build_kv(), flux2_klein_kv.FAMILY, each)) == 0
    assert difference(*pictures) > 0


def test_a_saved_kv_pipeline_is_recognised_by_its_class(tmp_path: Any) -> None:
    tiny.build_kv().save_pretrained(tmp_path)
    served = load("auto", str(tmp_path), Tuning(device="cpu", pixels=WORKING_PIXELS))
    assert served.name == "flux2-klein-kv"
