"""No diffusion pipeline gets, or returns, a stretched picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from services.editor.pipelines.base import EditJob
from services.editor.pipelines.instruct_pix2pix import arguments


def test_a_source_of_another_shape_is_cropped_for_a_pipeline_that_edits_at_the_sources_size() -> None:
    x, y = np.meshgrid(np.arange(300), np.arange(200))
    disc = Image.fromarray(np.where((x - 150) ** 2 + (y - 100) ** 2 < 60**2, 255, 0).astype(np.uint8)).convert("RGB")
    parameters = {"guidance_scale": 7.5, "image_guidance_scale": 1.5, "num_inference_steps": 2}
    given: Image.Image = arguments(EditJob(disc, "x", size=(512, 512), parameters=parameters), 512 * 512)["image"]

    rows, columns = np.nonzero(np.asarray(given.convert("L")) > 127)
    assert given.size == (512, 512)
    assert abs(int(np.ptp(rows)) - int(np.ptp(columns))) <= 2
