"""The tiny pipelines are reproducible, do not touch torch's global generator, and load from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.editor.pipelines.loading import load
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import Tuning
from tests.parity import WORKING_PIXELS, Bench
from tests.tiny import BUILDERS, save


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_saved_pipeline_is_recognised_by_its_class_and_edits_as_the_built_one(name: str, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    served = load("auto", str(save(name, tmp_path)), Tuning(device="cpu", dtype="float32", pixels=WORKING_PIXELS))
    assert torch.equal(torch.random.get_rng_state(), before)
    bench = Bench(name)
    job = bench.jobs()[0]
    edits = [pipeline.open(job) for pipeline in (served, bench.pipeline)]
    for edit, pipeline in zip(edits, (served, bench.pipeline), strict=True):
        while edit.result is None and edit.error is None:
            pipeline.advance([edit])
    results = [edit.result for edit in edits]
    assert results[0] is not None and results[1] is not None
    assert results[0].image.tobytes() == results[1].image.tobytes()


def test_every_tiny_pipeline_is_of_a_family() -> None:
    assert set(BUILDERS) <= set(DIFFUSION)
