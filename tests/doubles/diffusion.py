"""Real diffusion workers with tiny models, and the plain diffusers pictures to compare theirs with."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from services.editor.pipelines import EditJob, Tuning, load
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from tests.doubles.forked import forked
from tests.doubles.processes import Process, free_port, wait_ready
from tests.tiny import save

PIXELS = 64 * 64
"""The working area of the tiny models."""
_ENV = {"EDITTHINKER_EDITOR_PIXELS": str(PIXELS)}


@contextlib.contextmanager
def worker(family: str, folder: Path, **settings: Any) -> Iterator[Process]:
    """A worker process with a family's tiny model; settings by their names in lower case."""
    model = folder / "model"
    if not model.exists():
        save(family, model)
    env = {**_ENV, **{f"EDITTHINKER_EDITOR_{name.upper()}": str(value) for name, value in settings.items()}}
    port, log = free_port(), folder / "log"
    arguments = ["--port", str(port), "--pipeline", "auto", "--model", str(model)]
    process = Process(forked("services.editor", arguments, log, env), port, log)
    try:
        wait_ready(process, seconds=120)
        yield process
    finally:
        process.stop()


class Plain:
    """The same model run by plain diffusers in this process, the reference for every picture."""

    def __init__(self, family: str, folder: Path) -> None:
        model = str(folder / "model")
        # Loading it as the worker does also sets the working area of its class.
        served = load(family, model, Tuning(pixels=PIXELS, device="cpu"))
        assert isinstance(served, InterleavedPipeline)
        self._served = served
        described = served._family
        if described.load is None:
            self._pipe = DiffusionPipeline.from_pretrained(model)
        else:  # diffusers has blocks for it, and the service the call
            self._pipe = described.load(model, torch.float32, None)
            if described.on_load is not None:
                described.on_load(self._pipe)
        self._pipe.set_progress_bar_config(disable=True)

    def load_lora(self, path: Path, scale: float) -> None:
        """Make the pictures with this LoRA."""
        self._pipe.load_lora_weights(str(path), adapter_name="only")
        self._pipe.set_adapters("only", scale)

    def picture(self, job: EditJob) -> np.ndarray:
        """The edited picture (H, W, channels), in 8 bits, at the source's size."""
        family = self._served._family
        job = self._served.open(job).job  # with its defaults, and the source as it was sent
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            arguments = family.arguments(job, PIXELS)
            generator = torch.Generator().manual_seed(job.seed)
            images = self._pipe(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        finally:
            torch.set_num_threads(threads)
        pixels = (images[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels)
        wanted = job.size or job.image.size
        return np.asarray(image if image.size == wanted else image.resize(wanted, Image.Resampling.LANCZOS))


def source(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture of coarse noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    """A picture, encoded."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pixels(b64_json: str) -> np.ndarray:
    """A returned picture's pixels (H, W, 3), or (H, W, 4) with its transparency."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))))


def drawn_alike(picture: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two pictures of 8 bits are one drawing, but for values that lie between two levels.

    A processor's kernels may round a sum differently by the number of rows in it, which moves such a value by a level.
    """
    difference = np.abs(picture.astype(int) - wanted.astype(int))
    return bool(difference.max() <= 1 and (difference > 0).mean() < 0.001)
