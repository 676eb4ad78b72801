"""Random edits to workers of five families that differ most; ``make fuzz`` sends ten thousand to all."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ImageOps

from services.editor.pipelines import SingleStepPipeline
from services.embedded.editor import ClassicalPipeline
from tests.component.diffusion.test_lora_by_request import modules
from tests.fuzz import worker
from tests.fuzz.families import fuzz

EDITS = 24


@pytest.mark.parametrize("name", ["classical", "flux2-klein", "flux3-klein", "kontext", "qwen-image-2.1"])
async def test_random_edits_are_answered_with_their_picture_or_with_the_field_at_fault(name: str) -> None:
    report = await fuzz(name, edits=EDITS, seed=4)
    assert report.faults == []
    assert sum(report.answers.values()) == EDITS


async def test_with_loras_and_encoders_on_their_own_thread_too(tmp_path: Path) -> None:
    report = await fuzz("kontext", edits=EDITS, seed=5, overlap=True, loras=modules("kontext", tmp_path))
    assert report.faults == []


async def test_another_picture_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would not notice one."""
    monkeypatch.setattr(worker, "SAMPLED", 1)
    pipeline = SingleStepPipeline(ClassicalPipeline())
    report = await worker.fuzzed(
        lambda: pipeline, lambda job: ImageOps.invert(job.image.convert("RGB")), edits=EDITS, seed=4, aspect=9
    )
    assert report.compared > 0
    assert len([fault for fault in report.faults if "another picture" in fault or "a picture in" in fault]) == report.compared
