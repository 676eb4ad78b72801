"""FLUX 3 Image [klein]: the modular blocks as one call, bit by bit; and what they cannot do is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from services.editor.pipelines import flux3_klein
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.loading import load
from services.editor.pipelines.tuning import Tuning
from tests.component.diffusion.test_families import finished, served
from tests.parity import WORKING_PIXELS, Bench, difference, picture
from tests.tiny import BUILDERS, save
from tests.unit.editor import workers

NAME = "flux3-klein"
SETTINGS = Tuning(device="cpu", dtype="float32", pixels=WORKING_PIXELS)


def job(references: int = 0) -> EditJob:
    more = tuple(picture(10 + number, (64, 48)) for number in range(references))
    return EditJob(picture(1, (64, 64)), "a hat", seed=3, source="one", references=more, parameters={"num_inference_steps": 3})


@pytest.mark.parametrize("references", [0, 1, 9])
def test_an_edit_is_that_of_diffusers_own_blocks(references: int) -> None:
    """Run in one, as diffusers runs them: the other tests compare with the service's own call."""
    wanted, bench = job(references), Bench(NAME)
    arguments = bench.family.arguments(wanted, WORKING_PIXELS)
    generator = torch.Generator().manual_seed(wanted.seed)
    plain = BUILDERS[NAME]()(**arguments, generator=generator, output_type="pt", output="images")
    assert difference(bench.alone(bench.pipeline.prepare(wanted)), plain[0]) == 0


def test_a_folder_that_lacks_a_component_is_refused_by_its_name(tmp_path: Path) -> None:
    shutil.rmtree(save(NAME, tmp_path) / "vae")
    with pytest.raises(OSError, match=r"components that could not be loaded: vae"):
        load(NAME, str(tmp_path), SETTINGS)


def test_a_folder_without_any_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"model_index\.json"):
        load("auto", str(tmp_path), SETTINGS)


def test_offloading_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be offloaded; leave offload out"):
        serve(flux3_klein.FAMILY, BUILDERS[NAME](), Device("cpu"), Tuning(device="cpu", offload="model"))


def test_it_takes_sixteen_steps_and_one_call_each() -> None:
    pipeline = served(NAME)
    edit = finished(pipeline, EditJob(picture(1, (64, 64)), "a hat"))
    assert (edit.error, edit.steps, edit.calls_done) == (None, 16, 16)


async def test_a_worker_serves_it_and_refuses_guidance() -> None:
    async with workers.running(lambda: served(NAME), max_active=2) as app, workers.client(app) as http:
        fine = await workers.post(http, image=workers.png((64, 64)), num_inference_steps=2)
        wrong = await workers.post(http, image=workers.png((64, 64)), guidance_scale=4)
    assert (fine.status_code, wrong.status_code) == (200, 400)
    assert wrong.json()["error"]["param"] == "guidance_scale"


def test_an_edit_shows_no_progress_bar(capfd: pytest.CaptureFixture[str]) -> None:
    """On the worker's stderr they would be among its log lines."""
    assert finished(served(NAME), job()).error is None
    assert capfd.readouterr().err == ""
