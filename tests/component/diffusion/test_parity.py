"""Interleaved edits equal those of the plain diffusers pipelines for every family; changes of any input are detected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from services.editor.pipelines.base import EditResult
from services.editor.pipelines.diffusion import calls
from services.editor.pipelines.diffusion.calls import Collation
from tests import parity
from tests.parity import WORKING_PIXELS, Bench, Row, difference, picture
from tests.tiny import BUILDERS

CLOSE = 1e-5
"""Batched arithmetic adds in another order; a single wrong token or number is far above."""


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rows(name: str) -> dict[str, Row]:
    return {row.check: row for row in parity.measure(name)}


@pytest.fixture(scope="module")
def bench(name: str) -> Bench:
    return Bench(name)


def test_an_edit_alone_is_the_plain_pipelines(rows: dict[str, Row]) -> None:
    assert rows["alone"].difference <= CLOSE


def test_an_edit_among_others_is_the_plain_pipelines(rows: dict[str, Row], bench: Bench) -> None:
    assert rows["mixed"].difference <= CLOSE
    assert rows["mixed"].together > 1 or not bench.family.collations


def test_a_repeated_edit_is_bit_identical(rows: dict[str, Row]) -> None:
    assert rows["repeat"].difference == 0


def test_a_cancelled_and_a_failed_edit_leave_nothing_behind(rows: dict[str, Row]) -> None:
    assert rows["after"].difference == 0


@pytest.mark.parametrize("place", range(6))
def test_the_family_s_size_is_the_picture_s(bench: Bench, place: int) -> None:
    job = bench.jobs()[place]
    height, width = bench.expected(job).shape[1:]
    assert bench.family.size(job, WORKING_PIXELS) == (width, height)


@pytest.mark.parametrize("place", range(3))
def test_an_edit_takes_the_announced_number_of_calls(bench: Bench, place: int) -> None:
    edit = bench.pipeline.open(bench.jobs()[place])
    while edit.result is None and edit.error is None:
        bench.pipeline.advance([edit])
    assert (edit.calls_done, edit.step) == (edit.calls, edit.steps)


def test_encoded_sources_and_prompts_are_cached(bench: Bench) -> None:
    job = replace(bench.jobs()[0], image=picture(7, (64, 64)), source="cached")
    fresh = bench.alone(job)
    misses, hits = bench.pipeline.encoder_cache.misses, bench.pipeline.encoder_cache.hits
    assert difference(bench.alone(job), fresh) == 0
    assert bench.pipeline.encoder_cache.misses == misses
    assert bench.pipeline.encoder_cache.hits > hits


def test_a_preview_is_decoded_from_latents_in_the_vae_s_form(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latents after the last step, converted as previews are, decode to the finished picture."""
    job, latents = bench.jobs()[3], []
    to_vae, step = bench.family.to_vae, bench.plain.scheduler.step

    def remembering(*args: Any, **kwargs: Any) -> Any:
        answer = step(*args, **kwargs)
        latents.append(answer[0])
        return answer

    assert to_vae is not None
    monkeypatch.setattr(bench.plain.scheduler, "step", remembering)
    finished = bench.expected(job)
    with torch.no_grad():
        clean = to_vae(bench.plain, latents[-1], bench.family.size(job, WORKING_PIXELS))
        decoded = bench.plain.vae.decode(clean, return_dict=False)[0]
    flat = decoded[:, :, 0] if decoded.ndim == 5 else decoded
    assert difference((flat[0].float() / 2 + 0.5).clamp(0, 1), finished) <= CLOSE


@pytest.mark.parametrize("size", [(256, 256), (200, 140), (90, 260)])
def test_scaling_a_large_source_early_does_not_change_the_picture(bench: Bench, size: tuple[int, int]) -> None:
    """The result has the size of the source as sent."""
    job = replace(bench.jobs()[0], image=picture(5, size), source=f"large {size}", size=None)
    prepared = bench.pipeline.prepare(job)
    assert difference(bench.alone(prepared), bench.expected(job)) == 0
    if size == (256, 256) and bench.family.reduces is not None:
        assert prepared.image.width * prepared.image.height <= WORKING_PIXELS
    result = EditResult(Image.new("RGB", (64, 64)))
    assert bench.pipeline.finish(prepared, result).image.size == size


def test_previews_are_produced_during_the_edit(bench: Bench) -> None:
    edit = bench.pipeline.open(replace(bench.jobs()[0], previews=2))
    shown = []
    while edit.result is None and edit.error is None:
        bench.pipeline.advance([edit])
        if edit.preview is not None:
            shown.append(edit.preview)
            edit.preview = None
    assert len(shown) == 2
    assert min(shown[0].size) >= 8


@pytest.mark.parametrize("change", [{"prompt": "something else entirely"}, {"seed": 77}])
def test_another_prompt_or_seed_is_another_picture(bench: Bench, change: dict[str, Any]) -> None:
    job = bench.jobs()[0]
    assert difference(bench.alone(job), bench.alone(replace(job, **change))) > 50 * CLOSE


def test_another_source_is_another_picture(bench: Bench) -> None:
    job = bench.jobs()[0]
    other = replace(job, image=picture(50, (64, 64)), source="other")
    assert difference(bench.alone(job), bench.alone(other)) > 10 * CLOSE


@pytest.mark.parametrize("name", ["qwen-image-edit", "qwen-image-edit-plus"], indirect=True)
def test_padding_without_its_mask_is_another_picture(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Collation.PAD in bench.family.collations.values()
    monkeypatch.setattr(calls, "_add_mask", lambda *_: None)
    jobs = bench.jobs()
    pictures, together = bench.mixed(jobs)
    assert together > 1
    assert max(difference(one, bench.expected(job)) for one, job in zip(pictures, jobs, strict=True)) > 50 * CLOSE
