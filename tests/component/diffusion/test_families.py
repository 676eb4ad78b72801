"""What families accept and refuse: aspect ratios, scales without effect, and defaults."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from services.editor.pipelines import flux2, flux2_klein, kontext, longcat, omnigen2, qwen_edit, qwen_edit_plus, qwen_image_21
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS, Family
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.diffusion.rescaling import calculated_size
from services.editor.pipelines.diffusion.tuning import with_few_steps
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import Tuning
from services.errors import ApiError
from tests.parity import WORKING_PIXELS, picture
from tests.tiny import BUILDERS
from tests.tiny import flux2_klein as tiny_klein
from tests.unit.editor import workers

SHAPES = ((1, 1), (7, 5), (700, 64), (540, 67), (536, 67), (521, 67), (300, 40), (40, 300), (1000, 4), (4, 1000), (9000, 2))
AREAS = (1024, 64 * 64, 128 * 128, 256 * 256, 512 * 512, NATIVE_PIXELS)
FEW = Tuning(device="cpu", lora="lightning", few_steps=4)


def family_of(name: str) -> Family:
    family: Family = importlib.import_module(DIFFUSION[name][0]).FAMILY
    return family


def served(name: str) -> InterleavedPipeline:
    return serve(family_of(name), BUILDERS[name](), Device("cpu"), Tuning(device="cpu", pixels=WORKING_PIXELS))


def job(size: tuple[int, int] = (64, 64)) -> EditJob:
    return EditJob(Image.new("RGB", size, "teal"), "make it snow", parameters={"num_inference_steps": 2})


def asking(**parameters: float) -> EditJob:
    return replace(job(), parameters={"num_inference_steps": 2, **parameters})


def finished(pipeline: InterleavedPipeline, wanted: EditJob) -> InterleavedEdit:
    edit = pipeline.open(pipeline.prepare(wanted))
    while edit.result is None and edit.error is None:
        pipeline.advance([edit])
    return edit


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_source_of_any_aspect_ratio_is_edited_or_refused_early(name: str) -> None:
    pipeline = served(name)
    longest = family_of(name).aspect(WORKING_PIXELS)
    assert longest >= 7.5
    for size in SHAPES:
        if max(size) <= longest * min(size):
            assert finished(pipeline, job(size)).error is None, size
            continue
        with pytest.raises(ApiError, match=f"image is {size[0]}x{size[1]}, .*crop it, or pad it") as caught:
            pipeline.prepare(job(size))
        assert (caught.value.code, caught.value.param) == ("invalid_image", "image")


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_largest_allowed_aspect_ratio_is_edited(name: str) -> None:
    pipeline = served(name)
    longest = min(family_of(name).aspect(WORKING_PIXELS), 200)
    short = 64
    for size in ((int(short * longest), short), (short, int(short * longest))):
        assert finished(pipeline, job(size)).error is None
    if longest < 200:
        with pytest.raises(ApiError, match=r"crop it"):
            pipeline.prepare(job((int(short * longest) + 1, short)))


def test_flux2_never_gets_an_aspect_ratio_that_its_pipeline_refuses() -> None:
    for short in range(1, 400, 3):
        for long in range(7 * short, 8 * short + 1):
            width, height = flux2.reduced(replace(job(), image=Image.new("1", (long, short))), NATIVE_PIXELS)
            assert height >= 64
            assert width <= 8 * height


@pytest.mark.parametrize("pixels", AREAS)
@pytest.mark.parametrize("family", [qwen_edit.FAMILY, qwen_edit_plus.FAMILY, longcat.FAMILY], ids=lambda family: str(family.name))
def test_at_any_working_area_the_text_encoder_accepts_the_largest_aspect_ratio(family: Family, pixels: int) -> None:
    """And every smaller one: no computed side is 0, and the processor accepts the size."""
    kind = getattr(diffusers, DIFFUSION[family.name][1][0])
    longest = family.aspect(pixels)
    assert longest > 4
    areas = {pixels, *([pixels * 384 * 384 // NATIVE_PIXELS] if family is qwen_edit_plus.FAMILY else [])}
    for place in range(1000):
        ratio = 1 + (longest - 1) * place / 999
        for shape in ((ratio, 1), (1, ratio)):
            for area in areas:
                width, height = calculated_size(kind, shape, area)  # type: ignore[arg-type]
                assert min(width, height) > 0
                smart_resize(height // 2, width // 2)  # LongCat shows it at half the size, Qwen at the whole


@pytest.mark.parametrize("pixels", AREAS)
def test_kontext_s_source_stays_within_its_area_at_any_aspect_ratio(pixels: int) -> None:
    for size in ((30_000, 1), (1, 30_000), (9000, 2), (64, 64)):
        width, height = kontext.FAMILY.reduced(replace(job(), image=Image.new("1", size)), pixels)
        assert width * height <= 1.01 * pixels
        assert max(width, height) >= min(width, height) >= 16


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_requested_size_of_any_aspect_ratio_is_edited(name: str) -> None:
    pipeline = served(name)
    if not pipeline.capabilities.resize:
        return
    for size in ((9000, 2), (2, 9000), (1, 1), (700, 64)):
        assert finished(pipeline, replace(job(), size=size)).error is None, size


def test_at_their_own_area_the_families_take_panoramas() -> None:
    native = NATIVE_PIXELS
    assert [each.FAMILY.aspect(native) for each in (flux2, flux2_klein)] == [8, 8]
    assert [each.FAMILY.aspect(native) for each in (longcat, qwen_edit, qwen_edit_plus)] == [100, 100, 100]
    assert kontext.FAMILY.aspect(native) == float("inf")


async def test_an_unsupported_aspect_ratio_is_a_client_error_that_says_what_to_do() -> None:
    async with workers.running(lambda: served("flux2-klein"), max_active=1) as app, workers.client(app) as http:
        refused = [await workers.post(http, image=workers.png(size)) for size in ((700, 64), (540, 67), (64, 700))]
        taken = await workers.post(http, image=workers.png((536, 67)), num_inference_steps=1)
    assert [reply.status_code for reply in refused] == [400, 400, 400]
    error = refused[0].json()["error"]
    assert (error["code"], error["param"]) == ("invalid_image", "image")
    assert error["message"] == "image is 700x64, but flux2-klein takes at most 8:1; crop it, or pad it"
    assert (taken.status_code, taken.json()["size"]) == (200, "536x67")


async def test_a_family_that_uses_its_source_twice_refuses_aspect_ratios_early_too() -> None:
    async with workers.running(lambda: served("qwen-image-edit-plus"), max_active=1) as app, workers.client(app) as http:
        refused = await workers.post(http, image=workers.png((1000, 4)))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_image")


@pytest.mark.parametrize(
    ("family", "defaults"),
    [
        (flux2_klein.BASE, {"guidance_scale": 1}),
        (flux2_klein.FAMILY, {}),
        (flux2.FAMILY, {"guidance_scale": 4}),  # distilled into the model: no classifier-free guidance
        (kontext.FAMILY, {"guidance_scale": 3.5, "true_cfg_scale": 1}),
        (qwen_edit.FAMILY, {"true_cfg_scale": 1}),
        (qwen_image_21.FAMILY, {"true_cfg_scale": 1}),
        (longcat.FAMILY, {"guidance_scale": 1}),
        (omnigen2.FAMILY, {"guidance_scale": 1, "image_guidance_scale": 2}),
        (family_of("instruct-pix2pix"), {"guidance_scale": 1, "image_guidance_scale": 1.5}),
        (family_of("instruct-pix2pix-xl"), {"guidance_scale": 1, "image_guidance_scale": 1.5}),
    ],
    ids=lambda value: value.name if isinstance(value, Family) else None,
)
def test_few_steps_have_no_classifier_free_guidance_unless_requested(family: Family, defaults: dict[str, float]) -> None:
    few = with_few_steps(family, FEW)
    found = {name: allowed.default for name, allowed in few.capabilities.parameters.items()}
    assert found == {"num_inference_steps": 4, **defaults}
    plain = few.completed(EditJob(picture(1, (64, 64)), "x"))
    assert few.calls_a_step(plain) == 1


def test_a_few_step_base_klein_takes_one_call_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.editor.pipelines.diffusion.lora.fuse", lambda *_, **__: None)
    tuning = replace(FEW, pixels=WORKING_PIXELS)
    pipeline = serve(flux2_klein.FAMILY, tiny_klein.build(distilled=False), Device("cpu"), tuning)
    edit = finished(pipeline, replace(job(), parameters={}))
    assert (edit.error, edit.calls, edit.calls_done) == (None, 4, 4)


@pytest.mark.parametrize("name", ["kontext", "qwen-image-2.1", "qwen-image-edit", "qwen-image-edit-plus", "longcat-image-edit"])
def test_a_scale_of_classifier_free_guidance_counts_without_a_negative_prompt(name: str) -> None:
    pipeline = served(name)
    guided_by = pipeline._family.guided_by
    assert guided_by is not None
    edits = [finished(pipeline, asking(**{guided_by: scale})) for scale in (1, 4)]
    assert [edit.calls_done for edit in edits] == [edit.calls for edit in edits] == [2, 4]
    pictures = [edit.result.image.tobytes() for edit in edits if edit.result is not None]
    assert len(pictures) == 2 and pictures[0] != pictures[1]


@pytest.mark.parametrize("name", ["instruct-pix2pix", "instruct-pix2pix-xl", "omnigen2"])
def test_a_scale_for_the_source_that_would_have_no_effect_is_refused(name: str) -> None:
    family = family_of(name)
    with pytest.raises(ApiError, match="unless guidance_scale is above 1") as caught:
        family.check(asking(guidance_scale=1, image_guidance_scale=2), WORKING_PIXELS)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "image_guidance_scale")
    for fine in (asking(image_guidance_scale=2), asking(guidance_scale=1), asking(guidance_scale=1, image_guidance_scale=1)):
        family.check(fine, WORKING_PIXELS)
    with pytest.raises(ApiError, match="image_guidance_scale has no effect"):
        with_few_steps(family, FEW).check(asking(image_guidance_scale=2), WORKING_PIXELS)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_pipeline_is_called_with_the_served_family_s_defaults(name: str) -> None:
    few = with_few_steps(family_of(name), FEW)
    bare = EditJob(picture(1, (64, 64)), "x")
    assert few.arguments(bare, WORKING_PIXELS)["num_inference_steps"] == few.steps(bare) == 4


@pytest.mark.parametrize("name", sorted(BUILDERS.keys() - {"flux3-klein"}))  # blocks, with the service's own call
def test_the_pipeline_accepts_every_argument_it_is_called_with(name: str) -> None:
    """Stable Diffusion's would ignore others silently."""
    for class_name in DIFFUSION[name][1]:
        kind = getattr(diffusers, class_name)
        assert issubclass(kind, DiffusionPipeline)
        taken: Any = inspect.signature(kind.__call__).parameters
        assert set(family_of(name).arguments(job(), WORKING_PIXELS)) <= set(taken)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_fewest_steps_give_a_picture(name: str) -> None:
    fewest = family_of(name).capabilities.parameters["num_inference_steps"].low
    edit = finished(served(name), asking(num_inference_steps=fewest))
    assert edit.error is None and edit.step == fewest


@pytest.mark.parametrize(
    "name", ["flux2", "instruct-pix2pix", "instruct-pix2pix-xl", "kontext", "longcat-image-edit", "qwen-image-2.1"]
)
def test_documented_pipeline_defaults_are_the_pipeline_s(name: str) -> None:
    taken = inspect.signature(getattr(diffusers, DIFFUSION[name][1][0]).__call__).parameters
    found = {name: allowed.default for name, allowed in family_of(name).capabilities.parameters.items()}
    assert found == {parameter: taken[parameter].default for parameter in found}


def test_the_base_klein_s_defaults_are_the_pipeline_s_own() -> None:
    taken = inspect.signature(diffusers.Flux2KleinPipeline.__call__).parameters
    found = {name: allowed.default for name, allowed in flux2_klein.BASE.capabilities.parameters.items()}
    assert found == {parameter: taken[parameter].default for parameter in found}


@pytest.mark.parametrize("name", ["instruct-pix2pix", "instruct-pix2pix-xl"])
def test_previews_of_both_kinds_undo_the_scaling_that_their_vae_has(name: str) -> None:
    pipe = BUILDERS[name]()
    to_vae = family_of(name).to_vae
    assert to_vae is not None
    latents = torch.ones(1, 4, 8, 8)
    decodable = to_vae(pipe, latents, (64, 64))
    assert decodable is not None
    assert torch.equal(decodable, latents / pipe.vae.config.scaling_factor)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_marks_of_a_familys_tokenizers_are_known_and_none_is_plain_text(name: str) -> None:
    """So that a prompt that spells one is refused before any work; ordinary characters stay allowed."""
    marks = served(name).capabilities.special_tokens
    assert marks
    assert all(mark[0] in "<[" and mark[-1] in ">]" for mark in marks)
    if name.startswith(("qwen", "longcat")):
        assert {"<|im_end|>", "<|image_pad|>", "<|vision_start|>"} <= marks
