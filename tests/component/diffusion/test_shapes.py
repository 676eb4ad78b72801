"""No diffusion pipeline gets, or returns, a stretched picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from services.editor.pipelines.base import EditJob
from services.editor.pipelines.instruct_pix2pix import arguments
from tests.parity import Bench


def disc(scale: int) -> Image.Image:
    x, y = np.meshgrid(np.arange(300 * scale), np.arange(200 * scale))
    inside = (x - 150 * scale) ** 2 + (y - 100 * scale) ** 2 < (60 * scale) ** 2
    return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).convert("RGB")


def stretched_by(image: Image.Image) -> int:
    """Pixels by which the disc is wider or higher than it should be."""
    rows, columns = np.nonzero(np.asarray(image.convert("L")) > 127)
    return abs(int(np.ptp(rows)) - int(np.ptp(columns)))


def test_a_source_of_another_shape_is_cropped_for_a_pipeline_that_edits_at_the_sources_size() -> None:
    parameters = {"guidance_scale": 7.5, "image_guidance_scale": 1.5, "num_inference_steps": 2}
    given: Image.Image = arguments(EditJob(disc(1), "x", size=(512, 512), parameters=parameters), 512 * 512)["image"]

    assert given.size == (512, 512)
    assert stretched_by(given) <= 2


def test_a_large_one_is_cropped_before_it_is_scaled_down_early() -> None:
    job = EditJob(disc(2), "x", size=(64, 64), source="large")
    prepared = Bench("instruct-pix2pix").pipeline.prepare(job)

    assert prepared.image.size == (64, 64)
    assert stretched_by(prepared.image) <= 1
