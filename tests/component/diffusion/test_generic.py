"""Any editing pipeline of diffusers as the family ``generic``: plain diffusers' pictures, and calls of any form."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.calls import Collation
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.generic import family_for
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.loading import load
from services.editor.pipelines.tuning import Tuning
from services.errors import ApiError
from tests import parity
from tests.component.diffusion.generic_pipelines import FORMS, AnyDenoiser, Denoiser, any_form, with_call
from tests.parity import Bench, difference, picture
from tests.tiny import BUILDERS, UNKNOWN, save
from tests.unit.editor import workers

EVERY = sorted({**BUILDERS, **UNKNOWN})
CPU = Tuning(device="cpu", pixels=64 * 64)


def served(pipe: Any, **changes: Any) -> InterleavedPipeline:
    return serve(replace(family_for(pipe), **changes), pipe, Device("cpu"), CPU)


def job(prompt: str, seed: int = 1, steps: int = 3) -> EditJob:
    return EditJob(picture(seed, (64, 64)), prompt, seed=seed, parameters={"num_inference_steps": steps})


def run(pipeline: InterleavedPipeline, edits: list[InterleavedEdit]) -> list[Any]:
    """The pictures of edits that run together as the executor would let them, or what ended each."""
    for edit in edits:
        pipeline.advance([edit])
    while running := [edit for edit in edits if edit.result is None and edit.error is None]:
        for group in parity._groups(running):
            pipeline.advance(group)
    return [edit.error or (edit.result and edit.result.image.tobytes()) for edit in edits]


@pytest.fixture(autouse=True)
def sizes() -> Iterator[None]:
    with parity.small_sources():
        yield


@pytest.mark.parametrize("name", EVERY)
def test_edits_alone_and_interleaved_are_the_plain_pipeline_s(name: str) -> None:
    """And a cancelled and a failed one leave nothing behind."""
    rows = parity.measure(name, generic=True)
    assert [(row.check, row.difference, row.together) for row in rows] == [
        (check, 0, 1) for check in ("alone", "mixed", "repeat", "after")
    ]


@pytest.mark.parametrize("name", EVERY)
def test_a_cancelled_edit_stops_within_its_call(name: str) -> None:
    bench = Bench(name, generic=True)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    model = getattr(bench.plain_of_service, bench.family.denoiser)
    with torch.no_grad():
        cancelled, other = (bench.pipeline.open(each) for each in bench.jobs()[:2])
        for edit in (cancelled, other):
            bench.pipeline.advance([edit])
        hook = model.register_forward_pre_hook(count)
        bench.pipeline.advance([cancelled])
        assert calls == 1
        bench.pipeline.close(cancelled)
        hook.remove()
        assert calls == 1
        while other.result is None and other.error is None:
            bench.pipeline.advance([other])
        assert difference(bench.device.exact(other), bench.expected(bench.jobs()[1])) == 0


@pytest.mark.parametrize("name", EVERY)
def test_previews_are_what_the_finished_picture_is_decoded_from(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latents after the last step, converted as previews are, decode to the finished picture."""
    bench, latents = Bench(name, generic=True), []
    to_vae, step = bench.family.to_vae, bench.plain.scheduler.step
    assert (to_vae is not None) == (name in {*PREVIEWED}) == (bench.pipeline.capabilities.partial_images > 0)
    if to_vae is None:
        return

    def remembering(*args: Any, **kwargs: Any) -> Any:
        answer = step(*args, **kwargs)
        latents.append(answer[0])
        return answer

    wanted = bench.jobs()[3]
    monkeypatch.setattr(bench.plain.scheduler, "step", remembering)
    finished = bench.expected(wanted)
    with torch.no_grad():
        clean = to_vae(bench.plain, latents[-1], bench.family.size(wanted, bench.pixels))
        assert clean is not None
        decoded = bench.plain.vae.decode(clean, return_dict=False)[0]
    flat = decoded[:, :, 0] if decoded.ndim == 5 else decoded
    assert difference((flat[0].float() / 2 + 0.5).clamp(0, 1), finished) <= 1e-5
    edit = bench.pipeline.open(replace(wanted, previews=2))
    shown = 0
    while edit.result is None and edit.error is None:
        bench.pipeline.advance([edit])
        shown, edit.preview = shown + (edit.preview is not None), None
    assert shown == 2


PREVIEWED = (
    *("instruct-pix2pix", "instruct-pix2pix-xl", "kontext", "longcat-image-edit"),
    *("qwen-image-edit", "qwen-image-edit-plus", "z-image-img2img"),
)


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_prompt_seed_and_source_change_the_picture(name: str) -> None:
    bench = Bench(name)
    first = bench.jobs()[0]
    one = bench.alone(first)
    for changed in (
        replace(first, prompt="something else"),
        replace(first, seed=77),
        replace(first, image=picture(50, (64, 64))),
    ):
        assert difference(bench.alone(changed), one) > 1e-4


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_a_worker_starts_and_serves_it(name: str) -> None:
    bench = Bench(name)
    measured = warm_up(bench.pipeline, OperatorLimits(4, None))
    assert measured.limits.active >= 1
    prepared = bench.pipeline.prepare(replace(bench.jobs()[0], image=picture(1, (200, 100))))
    edit = bench.pipeline.open(prepared)
    run(bench.pipeline, [edit])
    assert edit.result is not None
    assert bench.pipeline.finish(prepared, edit.result).image.size == (200, 100)
    assert edit.step == edit.steps


# Calls of any form


@pytest.mark.parametrize("denoiser", [Denoiser, AnyDenoiser])
@pytest.mark.parametrize("form", FORMS)
def test_a_call_of_any_form_ends_nobody_else_s_edit(form: str, denoiser: type) -> None:
    described = {"x": Collation.CAT, "timestep": Collation.CAT}
    pipeline = served(any_form(denoiser), collations=described)
    plain = [job("plain", seed) for seed in (2, 3)]
    edits = [pipeline.open(each) for each in (plain[0], job(form), plain[1])]
    found = run(pipeline, edits)
    alone = [run(pipeline, [pipeline.open(each)])[0] for each in (plain[0], job(form), plain[1])]
    assert found == alone
    assert all(isinstance(each, bytes) for each in found)
    whole = any_form(denoiser)
    generator = torch.Generator("cpu").manual_seed(1)
    expected = whole(job(form).image, form, num_inference_steps=3, generator=generator, output_type="pt")[0]
    assert found[1] == (expected[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().tobytes()


def test_described_calls_share_a_pass_among_others() -> None:
    pipeline = served(any_form(), collations={"x": Collation.CAT, "timestep": Collation.CAT})
    edits = [pipeline.open(job(form, seed)) for seed, form in enumerate(("plain", "list", "plain"))]
    for edit in edits:
        pipeline.advance([edit])
    assert edits[0].group == edits[2].group is not None
    assert edits[1].group is None


@pytest.mark.parametrize("form", ["fail", "text"])
def test_a_call_that_fails_ends_its_own_edit_alone(form: str) -> None:
    pipeline = served(any_form())
    alone = run(pipeline, [pipeline.open(job("plain", 2))])[0]
    found = run(pipeline, [pipeline.open(job("plain", 2)), pipeline.open(job(form))])
    assert found[0] == alone
    assert isinstance(found[1], Exception)


def test_a_pipeline_that_changes_its_model_is_refused_at_its_start() -> None:
    """Another edit would compute with the changed model."""

    def call(self: Any, image: Any, prompt: str, num_inference_steps: int, *rest: Any) -> Any:
        self.transformer.set_attn_processor(None)
        return type(self).__mro__[1].__call__(self, image, prompt, num_inference_steps, *rest)

    pipeline = served(with_call(with_signature(call)))
    with pytest.raises(RuntimeError, match="changes its model during an edit"):
        warm_up(pipeline, OperatorLimits(1, None))


def test_an_edit_has_its_own_of_every_scheduler() -> None:
    """The second one's state would be mixed up between edits."""
    whole = any_form()
    whole.second = type(whole.scheduler)()
    pipeline = served(whole)
    copies = []
    for seed in (1, 2):
        edit = pipeline.open(job("plain", seed))
        pipeline.advance([edit])
        copies.append(pipeline._copy(edit))
    assert copies[0].second is not copies[1].second is not whole.second


# What is refused


def with_signature(call: Any) -> Any:
    """The call, which takes what an edit needs."""

    def __call__(  # noqa: N807 - it becomes one
        self: Any,
        image: Any,
        prompt: str,
        num_inference_steps: int = 4,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: Any = True,  # noqa: FBT002 - as pipelines have it
    ) -> Any:
        return call(self, image, prompt, num_inference_steps, generator, output_type, return_dict)

    return __call__


def no_picture(self: Any, prompt: Any, num_inference_steps: Any, generator: Any, output_type: Any, return_dict: Any) -> Any: ...


def nothing(self: Any, **rest: Any) -> Any: ...


def unseeded(self: Any, image: Any, prompt: Any, num_inference_steps: Any, output_type: Any, return_dict: Any) -> Any: ...


def masked(
    self: Any,
    image: Any,
    prompt: Any,
    num_inference_steps: Any,
    generator: Any,
    output_type: Any,
    return_dict: Any,
    mask_image: Any = None,
) -> Any: ...


def demanding(
    self: Any, image: Any, prompt: Any, pose: Any, num_inference_steps: Any, generator: Any, output_type: Any, return_dict: Any
) -> Any: ...


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (no_picture, "takes no image$"),
        (nothing, "takes no image, no prompt, no num_inference_steps, no generator, no output_type, no return_dict$"),
        (unseeded, "takes no generator$"),
        (masked, "takes mask_image too"),
        (demanding, "takes pose too"),
    ],
)
def test_a_pipeline_without_what_an_edit_has_is_refused_naming_it(call: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^OddPipeline .*{named}"):
        family_for(with_call(call))


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({"vae": None}, "OddPipeline lacks the component vae: complete the model's folder"),
        ({"transformer": any_form().scheduler}, "OddPipeline has no transformer and no unet"),
        ({"scheduler": any_form().vae}, "OddPipeline has no scheduler whose steps could be counted"),
    ],
)
def test_a_pipeline_without_a_component_that_it_needs_is_refused(components: dict[str, Any], message: str) -> None:
    broken = with_call(type(any_form()).__call__)
    for name, component in components.items():
        broken.register_modules(**{name: component})
    with pytest.raises(ValueError, match=message):
        family_for(broken)


def test_a_mask_and_a_second_picture_are_not_among_its_capabilities() -> None:
    able = served(any_form()).capabilities
    assert (able.mask, able.max_images, able.negative_prompt, able.partial_images) == (False, 1, False, 0)
    assert set(able.parameters) == {"num_inference_steps"}


def test_defaults_and_the_limit_of_text_are_the_signature_s() -> None:
    able = served(UNKNOWN["stable-diffusion-img2img"]()).capabilities
    assert {name: allowed.default for name, allowed in able.parameters.items()} == {
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "strength": 0.8,
    }
    assert (able.negative_prompt_needs, able.prompt_tokens, able.resize) == ("guidance_scale", 75, True)


@pytest.mark.parametrize("told", [inspect.Parameter.empty, None, 0, "many"])
def test_a_signature_without_a_number_of_steps_is_served_with_fifty(told: Any) -> None:
    """One without any default ended the start with a TypeError that named nothing."""

    def call(
        self: Any, image: Any, prompt: Any, num_inference_steps: Any, generator: Any, output_type: Any, return_dict: Any
    ) -> Any: ...

    signature = inspect.signature(call)
    steps = signature.parameters["num_inference_steps"].replace(default=told, kind=inspect.Parameter.KEYWORD_ONLY)
    others = [each for name, each in signature.parameters.items() if name not in {"num_inference_steps", "pose"}]
    call.__signature__ = signature.replace(parameters=[*others, steps])  # type: ignore[attr-defined]
    assert family_for(with_call(call)).capabilities.parameters["num_inference_steps"].default == 50


def test_a_text_longer_than_it_reads_is_refused() -> None:
    with pytest.raises(ApiError, match="reads at most 75"):
        served(UNKNOWN["stable-diffusion-img2img"]()).prepare(job("word " * 100))


# From a folder


@pytest.mark.parametrize("name", ["stable-diffusion-img2img", "flux3-klein", "instruct-pix2pix"])
async def test_a_folder_is_served_as_generic(name: str, tmp_path: Any) -> None:
    """Also one of modular blocks, and one that a family knows; `/v1/models` says what serves it."""
    folder = str(save(name, tmp_path / "model"))
    async with workers.running(lambda: load("generic", folder, CPU)) as app, workers.client(app) as http:
        (model,) = (await http.get("/v1/models")).json()["data"]
        reply = await workers.post(http, num_inference_steps=2)
    assert (model["id"], model["owned_by"], model["capabilities"]["images"]) == ("generic", "editthinker", 1)
    assert reply.status_code == 200, reply.text


def test_auto_keeps_to_the_known_families(tmp_path: Any) -> None:
    folder = str(save("stable-diffusion-img2img", tmp_path / "model"))
    with pytest.raises(ValueError, match="which no family serves; try --pipeline generic"):
        load("auto", folder, CPU)


def test_a_class_that_diffusers_does_not_have_is_refused(tmp_path: Any) -> None:
    folder = save("stable-diffusion-img2img", tmp_path / "model")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionImg2ImgPipeline", "TomorrowPipeline"))
    with pytest.raises(ValueError, match=r"is a TomorrowPipeline, which diffusers [\d.]+ does not have"):
        load("generic", str(folder), CPU)


def test_a_pipeline_from_text_alone_is_refused_at_its_start(tmp_path: Any) -> None:
    edits: Any = UNKNOWN["z-image-img2img"]()
    from diffusers import ZImagePipeline  # noqa: PLC0415 - slow to import

    made: DiffusionPipeline = ZImagePipeline(**edits.components)
    made.save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="ZImagePipeline is no pipeline that edits a picture by a text: its call takes no image"):
        load("generic", str(tmp_path), CPU)


def test_a_source_is_not_stretched_to_the_shape_that_is_asked_for() -> None:
    """It is cropped, as for families whose edit has its source's size."""
    family = family_for(any_form())
    source = Image.new("RGB", (64, 64), "white")
    source.paste("black", (0, 0, 64, 8))
    tall = family.arguments(replace(job("plain"), image=source, size=(32, 64)), 64 * 64)["image"]
    assert tall.size == (32, 64)
    assert tall.getpixel((16, 4)) == (0, 0, 0)
