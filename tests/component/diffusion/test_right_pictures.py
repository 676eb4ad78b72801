"""Pictures that were silently wrong: another shape of the source, another picture's encoding, steps counted twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HeunDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS
from PIL import Image

from services.editor.pipelines import kontext
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.encoder_cache import EncoderCache
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.tuning import Tuning
from tests.component.diffusion.test_families import finished, job, served
from tests.parity import WORKING_PIXELS, picture
from tests.tiny import BUILDERS


def encoded_at(size: tuple[int, int], pixels: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) of what Kontext's VAE encodes of a source, and of what it edits."""
    pipeline = serve(kontext.FAMILY, BUILDERS["kontext"](), Device("cpu"), Tuning(pixels=pixels))
    seen: list[tuple[int, int]] = []

    def encode(image: torch.Tensor, generator: Any) -> torch.Tensor:
        del generator
        seen.append((image.shape[-1], image.shape[-2]))
        return torch.zeros(1, 4, image.shape[-2] // 8, image.shape[-1] // 8)

    pipeline._pipe._encode_vae_image = encode
    wanted = pipeline.prepare(job(size))
    edit = pipeline.open(wanted)
    pipeline.advance([edit])
    assert edit.error is None
    pipeline.close(edit)
    return seen[0], kontext.FAMILY.size(wanted, pixels)


@pytest.mark.parametrize("size", [(819, 1024), (1024, 819), (1638, 2048), (301, 400), (511, 257), (1024, 1024)])
def test_kontext_encodes_a_source_at_the_shape_of_its_edit(size: tuple[int, int]) -> None:
    """Of 819 x 1024 it edits 944 x 1104; the pipeline alone would encode 880 x 1184."""
    encoded, edited = encoded_at(size, NATIVE_PIXELS)
    assert encoded == edited and edited[::-1] in [(height, width) for width, height in PREFERRED_KONTEXT_RESOLUTIONS]


def test_kontexts_choice_of_a_shape_is_that_of_the_exact_aspect_ratio() -> None:
    """As the reference of Black Forest Labs chooses; plain diffusers does so for a source of that shape."""
    for width in range(256, 513, 5):
        for height in range(256, 513, 7):
            chosen = kontext.reduced(EditJob(Image.new("1", (width, height)), "x"), NATIVE_PIXELS)
            closest = min(PREFERRED_KONTEXT_RESOLUTIONS, key=lambda each: (abs(width / height - each[0] / each[1]), each))
            assert chosen == closest


def test_kontexts_picture_is_that_of_plain_diffusers_for_a_source_of_the_edits_shape() -> None:
    """At a size at which the pipeline's own rounding differs: the plain pipeline gets the source scaled to the edit's shape."""
    at = 128 * 128
    pipeline = serve(kontext.FAMILY, BUILDERS["kontext"](), Device("cpu"), Tuning(pixels=at))
    wanted = replace(job(), image=picture(3, (101, 128)))
    width, height = kontext.FAMILY.size(wanted, at)
    plain = BUILDERS["kontext"]()(
        image=wanted.image.resize((width, height), Image.Resampling.LANCZOS),
        prompt=wanted.prompt,
        width=width,
        height=height,
        max_area=width * height,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        _auto_resize=False,
    ).images[0]
    edit = finished(pipeline, wanted)
    assert edit.result is not None and edit.result.image.size == (width, height)
    assert edit.result.image.tobytes() == plain.tobytes()


def test_what_encoders_made_is_kept_by_content() -> None:
    """Two pictures of one size, of one edit: a mask is not answered with the source's encoding."""
    calls: list[float] = []

    def encode(image: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        del generator
        calls.append(float(image.mean()))
        return image * 2

    cached = EncoderCache(1 << 20).cached(encode, "encode", "source")
    source, mask = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert torch.equal(cached(source), source) and torch.equal(cached(mask), 2 * mask)
    assert torch.equal(cached(mask.clone(), generator=None), 2 * mask)
    assert calls == [0, 1, 1]  # the last has another argument
    cached(source)
    assert len(calls) == 3
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    pictures = EncoderCache(1 << 20).cached(lambda image: (image.getpixel((0, 0)),), "encode", "source")
    assert pictures(red) != pictures(blue)
    bare = EncoderCache(1 << 20).cached(encode, "encode", "")
    bare(source)
    bare(source)
    assert len(calls) == 5


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_heun_counts_its_steps_once(guidance_scale: float) -> None:
    """It calls the model twice in each but the last."""
    pipe = BUILDERS["instruct-pix2pix"]()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    family = served("instruct-pix2pix")._family
    pipeline = serve(family, pipe, Device("cpu"), Tuning(pixels=WORKING_PIXELS))
    wanted = replace(job(), parameters={"num_inference_steps": 5, "guidance_scale": guidance_scale}, previews=2)
    edit = pipeline.open(pipeline.prepare(wanted))
    steps, previews = [], []
    while edit.result is None and edit.error is None:
        pipeline.advance([edit])
        steps.append(edit.step)
        if edit.preview is not None:
            previews.append(edit.step)
            edit.preview = None
    assert edit.error is None
    assert (edit.steps, edit.calls, edit.calls_done) == (5, 9, 9)
    assert steps == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]
    assert previews == [2, 3]


def test_a_few_step_schedule_belongs_to_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's is Qwen's: FLUX keeps its own."""
    monkeypatch.setattr("services.editor.pipelines.diffusion.lora.fuse", lambda *_, **__: None)
    tuning = Tuning(pixels=WORKING_PIXELS, lora="some", few_steps=4)
    found = {}
    for name in ("kontext", "qwen-image-edit", "qwen-image-edit-plus"):
        pipeline = serve(served(name)._family, BUILDERS[name](), Device("cpu"), tuning)
        scheduler = pipeline._pipe.scheduler
        assert isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        found[name] = (scheduler.config.base_shift, scheduler.config.shift_terminal)
    own = BUILDERS["kontext"]().scheduler.config
    assert found["kontext"] == (own.base_shift, own.shift_terminal)
    assert found["qwen-image-edit"] == found["qwen-image-edit-plus"] == (pytest.approx(1.0986, abs=1e-3), None)
