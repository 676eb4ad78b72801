"""Starts the same worker several times, and compares how much each gets done: what is batched must not depend on a start."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
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

SIDE = 512
MIXES: Mapping[str, Mapping[int, int]] = {"64": {64: 16}, "128": {128: 16}, "512": {512: 3}, "all": {64: 8, 128: 8, 512: 2}}
"""By name: how many edits of each side arrive together."""
_ROUNDS = 3
"""Measured ones of a mix, after one more in which the worker learns what its passes cost: a worker serves for days."""
_ACTIVE = 8
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """One mix on one worker: edits, seconds on the clock and of the processor, and calls in one pass."""

    edits: int
    wall_s: float
    cpu_s: float
    calls_a_pass: float


def start(pipe: Any, steps: int) -> tuple[dict[str, Run], str]:
    """Start a worker, and send it each mix; the runs, and its cost model in words."""
    pipeline = InterleavedPipeline(FAMILY, pipe, Device("cpu"), Options(SIDE * SIDE, 0))
    observer = Passes()
    executor = Executor(lambda: pipeline, observer, OperatorLimits(active=_ACTIVE, batch=None), queue=1000)
    executor.start()
    try:
        wait_for(lambda: executor.state is not State.STARTING, _LIMIT_S, "warming up")
        assert executor.state is State.READY, executor.cause
        knots = ", ".join(
            f"{knot.tokens:.0f} tokens {1000 * knot.alone_s:.1f} ms, marginal {knot.marginal:.2f}"
            for knot in executor.cost_model.knots
        )
        return {name: _run(executor, pipeline, observer, mix, steps) for name, mix in MIXES.items()}, knots
    finally:
        executor.stop(5.0)
        for module in pipe.transformer.modules():  # `BatchInvariance` may have patched them
            vars(module).pop("forward", None)


def _run(executor: Executor, pipeline: InterleavedPipeline, observer: Passes, mix: Mapping[int, int], steps: int) -> Run:
    jobs = [_job(side, seed, steps) for side, number in mix.items() for seed in range(number)]

    def all_edited() -> None:
        for handle in executor.submit([pipeline.prepare(job) for job in jobs]):
            handle.future.result(_LIMIT_S)

    all_edited()
    calls, passes = observer.calls, observer.passes
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(_ROUNDS):
        all_edited()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return Run(_ROUNDS * len(jobs), wall_s, cpu_s, (observer.calls - calls) / max(1, observer.passes - passes))


def _job(side: int, seed: int, steps: int) -> EditJob:
    source = picture(seed).resize((side, side), Image.Resampling.BILINEAR)
    return EditJob(source, f"number {seed}", seed, parameters={"num_inference_steps": float(steps)})


def spread(values: Sequence[float]) -> float:
    """The difference of the largest and the smallest, as a share of the median."""
    return (max(values) - min(values)) / median(values)


def table(starts: Sequence[Mapping[str, Run]]) -> str:
    """A row for each mix: the medians of all starts, and their spreads."""
    rows = []
    for name in MIXES:
        runs = [one[name] for one in starts]
        wall = [run.edits / run.wall_s for run in runs]
        cpu = [run.edits / run.cpu_s for run in runs]
        sizes = [run.calls_a_pass for run in runs]
        shares = (f"{median(wall):.2f}", f"{spread(wall):.0%}", f"{median(cpu):.2f}", f"{spread(cpu):.0%}")
        rows.append([name, *shares, f"{min(sizes):.2f} to {max(sizes):.2f}"])
    return report.table(["mix", "edits/s", "spread", "edits/CPU s", "spread", "calls a pass"], rows)
