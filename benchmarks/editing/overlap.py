"""Compares a worker whose text encoder and VAE have a thread of their own with one whose executor runs them, in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from PIL import Image

from benchmarks.editing import report
from benchmarks.editing.servers import Passes, wait_for
from benchmarks.editing.trace import picture
from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline, Options
from services.editor.pipelines.flux2_klein import FAMILY

SIDE = 128
EDITS = 8
"""Edits that arrive together; a pass has one of them, so that nothing but the overlap differs."""
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds until all edits were done, on the clock and of the processor; their mean latency, and their pictures."""

    wall_s: float
    cpu_s: float
    latency_s: float
    pictures: tuple[bytes, ...]


def compare(pipe: Any, rounds: int, steps: int) -> tuple[str, bool]:
    """The medians of so many rounds of each as a table, and whether all pictures are equal."""
    runs: dict[bool, list[Run]] = {False: [], True: []}
    for _ in range(rounds):
        for overlap, made in runs.items():
            made.append(_run(pipe, steps, overlap=overlap))
    rows = [["off", *_medians(runs[False])], ["on", *_medians(runs[True])]]
    table = report.table(["overlap", "s until all are done", "from", "to", "CPU s", "mean latency, s"], rows)
    return table, len({run.pictures for made in runs.values() for run in made}) == 1


def _medians(runs: Sequence[Run]) -> list[str]:
    walls = [run.wall_s for run in runs]
    others = (median(run.cpu_s for run in runs), median(run.latency_s for run in runs))
    return [report.number(value, 2) for value in (median(walls), min(walls), max(walls), *others)]


def _run(pipe: Any, steps: int, *, overlap: bool) -> Run:
    pipeline = InterleavedPipeline(FAMILY, pipe, Device("cpu"), Options(SIDE * SIDE, 0, overlap=overlap))
    executor = Executor(lambda: pipeline, Passes(), OperatorLimits(active=EDITS, batch=1), queue=1000)
    executor.start()
    try:
        wait_for(lambda: executor.state is not State.STARTING, _LIMIT_S, "warming up")
        assert executor.state is State.READY, executor.cause
        jobs = [pipeline.prepare(_job(seed, steps)) for seed in range(EDITS)]
        ends: list[float] = []
        began, cpu_s = time.perf_counter(), time.process_time()
        handles = executor.submit(jobs)
        for handle in handles:
            handle.future.add_done_callback(lambda _: ends.append(time.perf_counter()))
        pictures = tuple(handle.future.result(_LIMIT_S).result.image.tobytes() for handle in handles)
        cpu_s = time.process_time() - cpu_s
        wait_for(lambda: len(ends) == EDITS, _LIMIT_S, "the last callback")
        return Run(max(ends) - began, cpu_s, mean(ends) - began, pictures)
    finally:
        executor.stop(5.0)
        for module in pipe.transformer.modules():  # `BatchInvariance` may have patched them
            vars(module).pop("forward", None)


def _job(seed: int, steps: int) -> EditJob:
    source = picture(seed).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return EditJob(source, f"number {seed}", seed, parameters={"num_inference_steps": float(steps)})
