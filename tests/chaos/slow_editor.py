"""The real editor worker at a diffusion model's pace: ``python -m tests.chaos.slow_editor --port N``.

The classical editor alone takes 20 ms, too short for a kill to hit it, and larger pictures would only use the two cores
that the rest needs. So the real service (its endpoint, executor, idempotency keys, suspension, draining) runs a pipeline
that sleeps through denoise steps and then calls the classical editor. Every step is written to a journal before it is done,
so that the lost work of a killed worker can be counted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from PIL import Image

from services.editor.app import create_app
from services.editor.pipelines import Capabilities, Edit, EditJob, EditResult, Range
from services.editor.pipelines.single_step import SingleStepEdit
from services.editor.settings import Settings
from services.embedded.editor import ClassicalPipeline

STEPS = "num_inference_steps"
_WARM_UP = "increase the contrast by 10%"


class SlowPipeline:
    """A pipeline whose steps sleep; edits share a step, as on a GPU.

    Args:
        step_s: seconds of one step, for any number of edits that share it.
        journal: one line for each edit and step: run, seed, digest of the prompt, step, steps, seconds.
    """

    name = "slow"
    interruptible = True
    max_active = None
    lags = False
    overlaps = False

    def __init__(self, step_s: float, journal: Path) -> None:
        self._step_s = step_s
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._painter = ClassicalPipeline()
        self._runs: dict[int, str] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(mask=True, parameters={STEPS: Range(1, 1000, 8, whole=True)})

    @property
    def warm_up(self) -> EditJob:
        return EditJob(Image.new("RGB", (64, 64), "grey"), _WARM_UP, parameters={STEPS: 1.0})

    def prepare(self, job: EditJob) -> EditJob:
        return job

    def open(self, job: EditJob) -> SingleStepEdit:
        steps = int(job.parameters.get(STEPS, self.capabilities.parameters[STEPS].default))
        edit = SingleStepEdit(job, group="all", calls=steps, steps=steps)
        self._runs[id(edit)] = secrets.token_hex(8)
        return edit

    def advance(self, edits: Sequence[Edit]) -> None:
        if not edits[0].started:
            edits[0].started = True
            return
        self._write_down(edits)
        time.sleep(self._step_s)
        for edit in edits:
            assert isinstance(edit, SingleStepEdit)
            edit.step += 1
            edit.calls_done += 1
            if edit.step == edit.steps:
                try:
                    edit.result = self._painter.edit(replace(edit.job, parameters={}))
                except Exception as exc:  # noqa: BLE001 - the executor logs it
                    edit.error = exc

    def _write_down(self, edits: Sequence[Edit]) -> None:
        """Write before the step, so that a kill hides nothing, in one call, so that lines stay complete."""
        lines = []
        for edit in edits:
            assert isinstance(edit, SingleStepEdit)
            job = edit.job
            if job.prompt != _WARM_UP:
                run = self._runs[id(edit)]
                lines.append(f"{run} {job.seed} {digest(job.prompt)} {edit.step + 1} {edit.steps} {self._step_s}\n")
        os.write(self._journal, "".join(lines).encode())

    def close(self, edit: Edit) -> None:
        self._runs.pop(id(edit), None)

    def reclaim(self) -> None:
        """Nothing to free."""

    def shutdown(self) -> None: ...

    def memory(self) -> None:
        """Not measured."""

    def figures(self) -> Mapping[str, float]:
        return {}

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        del job
        return result


def digest(prompt: str) -> str:
    """The digest that identifies a prompt in the journal."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--step", type=float, default=0.04)
    parser.add_argument("--active", type=int, default=4, help="edits that share a step")
    options = parser.parse_args()
    given = {"port": options.port, "max_active": options.active, "max_batch": options.active, "codec_threads": 1}
    settings = Settings.model_validate(given)
    app = create_app(settings, build=lambda: SlowPipeline(options.step, options.journal))
    # As `python -m services.editor` serves it.
    drain = max(1, round(settings.drain_s))
    uvicorn.run(app, port=options.port, log_level="warning", timeout_keep_alive=75, timeout_graceful_shutdown=drain)


if __name__ == "__main__":
    main()
