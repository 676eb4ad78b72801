"""Qwen-Image-2.1: the prefix kept across the steps, transparency, the Turbo's schedule and Lightning's."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.editor.pipelines import qwen_image_21
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion import calls
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import NATIVE_PIXELS
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.tuning import Tuning
from tests.component.diffusion.test_families import finished, job, served
from tests.parity import WORKING_PIXELS, Bench, difference, picture
from tests.tiny import qwen_image_21 as tiny
from tests.unit.editor import workers

NAME = "qwen-image-2.1"


def alike(place: int) -> EditJob:
    """Edits whose prompts have one length and whose sources have one shape: they may share passes."""
    parameters = {"num_inference_steps": 3 + place % 2}
    return EditJob(picture(place, (64, 64)), f"edit {place}", seed=place, source=str(place), parameters=parameters)


def test_edits_that_share_passes_keep_their_own_prefixes() -> None:
    bench = Bench(NAME)
    jobs = [alike(place) for place in range(5)]
    pictures, together = bench.mixed(jobs)
    assert together >= 3
    assert max(difference(found, bench.expected(each)) for found, each in zip(pictures, jobs, strict=True)) <= 1e-6


def test_another_edits_prefix_is_another_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would not notice one."""
    bench = Bench(NAME)
    jobs = [alike(2), alike(4)]
    monkeypatch.setattr(calls._PrefixLayers, "get", lambda self: [torch.cat(both) for both in zip(*swapped(self), strict=True)])
    edits = [bench.pipeline.open(each) for each in jobs]
    for edit in edits:
        bench.pipeline.advance([edit])
    while edits[0].result is None:
        bench.pipeline.advance(edits)
    assert difference(bench.device.exact(edits[0]), bench.expected(jobs[0])) > 1e-3


def swapped(layers: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [layer.get() for layer in layers._layers[::-1]]


def test_text_and_pictures_are_computed_in_the_first_step_only() -> None:
    pipeline = served(NAME)
    edit = pipeline.open(pipeline.prepare(alike(1)))
    pipeline.advance([edit])
    assert edit.call is not None
    kept = edit.call.arguments["kv_cache"]
    assert edit.call.arguments["kv_cache_mode"] == "extract"
    pipeline.advance([edit])
    first = [layer.k for layer in kept.layer_caches]
    assert edit.call.arguments["kv_cache_mode"] == "cached"
    pipeline.advance([edit])
    assert all(layer.k is tensor for layer, tensor in zip(kept.layer_caches, first, strict=True))


def test_transparency_reaches_the_pipeline_and_comes_back() -> None:
    pipeline, clear = served(NAME), picture(3, (64, 64)).convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))))
    source = replace(job(), image=clear, source="clear")
    assert pipeline.prepare(source).image.getpixel((0, 0)) == clear.getpixel((0, 0))

    bench = Bench(NAME)
    found = bench.alone(bench.pipeline.prepare(source))
    assert found.shape[0] == 4
    assert difference(found, bench.expected(source)) == 0
    opaque = replace(source, image=clear.convert("RGB"), source="opaque")
    assert difference(found, bench.alone(opaque)) > 1e-3


async def test_a_transparent_source_is_answered_with_a_transparent_picture() -> None:
    async with workers.running(lambda: served(NAME), max_active=1) as app, workers.client(app) as http:
        clear = BytesIO()
        Image.new("RGBA", (64, 64), (200, 0, 0, 90)).save(clear, "PNG")
        reply = await workers.post(http, image=clear.getvalue(), num_inference_steps=2)
        flat = await workers.post(http, image=clear.getvalue(), num_inference_steps=2, output_format="jpeg")
    assert reply.status_code == flat.status_code == 200
    modes = [Image.open(BytesIO(b64decode(each.json()["data"][0]["b64_json"]))).mode for each in (reply, flat)]
    assert modes == ["RGBA", "RGB"]


def turbo() -> InterleavedPipeline:
    built = tiny.build(sample_sigmas=tiny.TURBO_SIGMAS)
    return serve(qwen_image_21.FAMILY, built, Device("cpu"), Tuning(device="cpu", pixels=WORKING_PIXELS))


def test_a_turbo_takes_the_steps_of_its_own_schedule() -> None:
    pipeline = turbo()
    edit = finished(pipeline, replace(job(), parameters={}))
    assert (edit.error, edit.step, edit.steps, edit.calls, edit.calls_done) == (None, 4, 4, 4, 4)
    assert set(pipeline.capabilities.parameters) == {"num_inference_steps"}
    assert not pipeline.capabilities.negative_prompt


def test_a_turbo_is_not_served_with_another_number_of_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.editor.pipelines.diffusion.lora.fuse", lambda *_, **__: None)
    built = tiny.build(sample_sigmas=tiny.TURBO_SIGMAS)
    with pytest.raises(ValueError, match="takes 4 steps, not 8: leave few_steps and the LoRA out"):
        serve(qwen_image_21.FAMILY, built, Device("cpu"), Tuning(pixels=WORKING_PIXELS, lora="some", few_steps=8))


async def test_a_turbo_refuses_other_steps_and_guidance() -> None:
    async with workers.running(turbo, max_active=1) as app, workers.client(app) as http:
        replies = [
            await workers.post(http, image=workers.png((64, 64)), **wrong)
            for wrong in ({"num_inference_steps": 8}, {"true_cfg_scale": 4}, {"negative_prompt": "ugly"})
        ]
    assert [reply.status_code for reply in replies] == [400] * 3
    assert [reply.json()["error"]["param"] for reply in replies] == ["num_inference_steps", "true_cfg_scale", "negative_prompt"]
    assert "num_inference_steps must be 4 for " in replies[0].json()["error"]["message"]


def test_lightning_keeps_the_published_shifts_and_is_not_stretched_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.editor.pipelines.diffusion.lora.fuse", lambda *_, **__: None)
    pipe = tiny.build()
    before = dict(pipe.scheduler.config)
    serve(qwen_image_21.FAMILY, pipe, Device("cpu"), Tuning(pixels=WORKING_PIXELS, lora="some", few_steps=4))
    after = dict(pipe.scheduler.config)
    assert {key for key in before if before[key] != after[key]} == {"shift_terminal"}
    assert after["shift_terminal"] is None


def test_a_lora_is_fused(tmp_path: Path) -> None:
    pipe = tiny.build()
    plain = finished(serve(qwen_image_21.FAMILY, pipe, Device("cpu"), Tuning(device="cpu", pixels=WORKING_PIXELS)), job())
    from peft import LoraConfig  # noqa: PLC0415 - only here

    tuned = tiny.build()
    tuned.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    from peft.utils import get_peft_model_state_dict  # noqa: PLC0415 - only here

    tuned.save_lora_weights(tmp_path, transformer_lora_layers=get_peft_model_state_dict(tuned.transformer))
    settings = Tuning(device="cpu", pixels=WORKING_PIXELS, lora=str(tmp_path), few_steps=4)
    pipeline = serve(qwen_image_21.FAMILY, tiny.build(), Device("cpu"), settings)
    edit = finished(pipeline, replace(job(), parameters={}))
    assert (edit.error, edit.steps) == (None, 4)
    assert plain.result is not None and edit.result is not None
    assert plain.result.image.tobytes() != edit.result.image.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (100, 1), (1, 100), (7, 5)])
def test_no_side_is_rounded_to_nothing(shape: tuple[int, int]) -> None:
    source = replace(job(), image=Image.new("1", (shape[0] * 40, shape[1] * 40)))
    width, height = qwen_image_21.size(source, NATIVE_PIXELS)
    assert min(width, height) >= 32
    assert width % 32 == height % 32 == 0


@pytest.mark.parametrize("pixels", [64 * 64, NATIVE_PIXELS, 4 * NATIVE_PIXELS])
def test_ten_of_the_widest_pictures_and_the_longest_text_have_positions(pixels: int) -> None:
    """diffusers would take those beyond 8192 for negative ones. The template has at most 100 tokens."""
    wide = replace(job(), image=Image.new("1", (int(1000 * qwen_image_21.aspect(pixels)), 1000), None))
    longer = max(qwen_image_21.size(wide, pixels)) // 16
    text = qwen_image_21.FAMILY.text
    assert text is not None and text.most is not None
    assert (qwen_image_21.MAX_IMAGES + 1) * longer + text.most + 100 <= 8192
