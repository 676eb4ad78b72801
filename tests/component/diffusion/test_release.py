"""Finished, failed and out-of-memory edits are released: they hold neither device nor host memory."""

from __future__ import annotations

import contextlib
import gc
import importlib
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines.base import EditJob, OutOfMemoryError
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import Tuning
from tests.doubles.diffusion import source
from tests.doubles.waiting import wait
from tests.tiny import BUILDERS
from tests.unit.editor.interleaved import CountingObserver

PIXELS = 64 * 64
NO_MEMORY = "CUDA out of memory. Tried to allocate 2 GiB"


def served(family: str = "kontext", **tuning: Any) -> InterleavedPipeline:
    described = importlib.import_module(DIFFUSION[family][0]).FAMILY
    return serve(described, BUILDERS[family](), Device("cpu"), Tuning(pixels=PIXELS, encoder_cache_bytes=0, **tuning))


def job(number: int, steps: int = 3) -> EditJob:
    return EditJob(source(number), f"instruction {number}", number, parameters={"num_inference_steps": steps}, source=str(number))


def finish(pipeline: InterleavedPipeline, *edits: InterleavedEdit) -> None:
    while running := [edit for edit in edits if edit.result is None and edit.error is None]:
        pipeline.advance(running[:1])


def together(pipeline: InterleavedPipeline, edit: InterleavedEdit, other: InterleavedEdit) -> None:
    """Start each, then advance them together until one finishes or fails."""
    pipeline.advance([edit])
    while edit.result is None:
        pipeline.advance([edit, other])


@pytest.fixture
def counted() -> Iterator[None]:
    """Without background garbage collection: objects are released by reference counting only."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Failing:
    """The denoiser's own forward, which fails once after it has made something; ``kept`` tells whether that is still there."""

    def __init__(
        self, pipeline: InterleavedPipeline, monkeypatch: pytest.MonkeyPatch, error: type[Exception], passes: int = 1
    ) -> None:
        self._forward, self._left, self._error = pipeline._model.forward, passes, error
        self._made: list[weakref.ref[torch.Tensor]] = []
        monkeypatch.setattr(pipeline._model, "forward", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._left:
            self._left -= 1
            activation = torch.zeros(1000)
            self._made.append(weakref.ref(activation))
            raise self._error(NO_MEMORY)
        return self._forward(*args, **kwargs)

    @property
    def kept(self) -> int:
        return sum(made() is not None for made in self._made)


@contextlib.contextmanager
def executing(pipeline: InterleavedPipeline, batch: int) -> Iterator[Executor]:
    executor = Executor(lambda: pipeline, CountingObserver(), OperatorLimits(4, batch), queue=8)
    executor.start()
    wait(lambda: executor.state is not State.STARTING)
    yield executor
    executor.stop(20)


@pytest.mark.parametrize("edits", [1, 2])
def test_a_pass_that_runs_out_of_memory_is_released_before_memory_is_reclaimed(
    edits: int, monkeypatch: pytest.MonkeyPatch, counted: None
) -> None:
    """Its activations are released by then without garbage collection, and the edits finish."""
    pipeline = served()
    kept: list[int] = []
    with executing(pipeline, 2) as executor:
        failing = Failing(pipeline, monkeypatch, torch.OutOfMemoryError)
        monkeypatch.setattr(pipeline, "reclaim", lambda: kept.append(failing.kept))
        handles = executor.submit([pipeline.prepare(job(number)) for number in range(edits)])
        assert all(handle.future.result(60).steps == 3 for handle in handles)
    assert kept and set(kept) == {0}


def test_a_step_repeated_after_running_out_of_memory_gives_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edit's current call is intact."""
    pipeline = served()
    whole, edit = pipeline.open(job(1)), pipeline.open(job(1))
    finish(pipeline, whole)
    pipeline.advance([edit])
    pipeline.advance([edit])
    Failing(pipeline, monkeypatch, torch.OutOfMemoryError)
    with pytest.raises(OutOfMemoryError, match="2 GiB") as failure:
        pipeline.advance([edit])
    assert failure.value.edits == (edit,) and edit.started
    finish(pipeline, edit)
    assert whole.result is not None and edit.result is not None
    assert edit.result.image.tobytes() == whole.result.image.tobytes()


@pytest.mark.parametrize("part", ["_encode_vae_image", "vae"])
def test_an_edit_that_runs_out_of_memory_outside_the_denoiser_is_back_at_its_beginning(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it encodes or decodes; the others of the pass continue, and its picture is the same."""
    pipeline = served()
    whole, edit, other = (pipeline.open(job(1)), pipeline.open(job(1)), pipeline.open(job(2, steps=9)))
    finish(pipeline, whole)
    pipeline.advance([other])
    where, name = (pipeline._pipe, part) if part != "vae" else (pipeline._pipe.vae, "decode")
    real, failures = getattr(where, name), iter([True])

    def short(*args: Any, **kwargs: Any) -> Any:
        if next(failures, False):
            raise torch.OutOfMemoryError(NO_MEMORY)
        return real(*args, **kwargs)

    monkeypatch.setattr(where, name, short)
    with pytest.raises(OutOfMemoryError) as failure:
        together(pipeline, edit, other)
    assert failure.value.edits == (edit,)
    assert (edit.started, edit.error, edit.calls_done, edit.step) == (False, None, 0, 0)
    assert other.calls_done == (3 if part == "vae" else 0)
    finish(pipeline, edit, other)
    assert whole.result is not None and edit.result is not None
    assert edit.result.image.tobytes() == whole.result.image.tobytes()


@pytest.mark.parametrize("end", ["finished", "cancelled", "failed", "failed in a pass"])
def test_a_finished_edit_is_released_with_its_last_reference(end: str, monkeypatch: pytest.MonkeyPatch, counted: None) -> None:
    """Not with the next garbage collection, which may be minutes away: it holds device memory."""
    pipeline = served()
    edit = pipeline.open(job(1))
    pipeline.advance([edit])
    if end == "failed":
        monkeypatch.setattr(pipeline._pipe.vae, "decode", lambda *_, **__: 1 / 0)
    if end == "failed in a pass":
        Failing(pipeline, monkeypatch, ValueError)
    if end == "cancelled":
        pipeline.close(edit)
    else:
        finish(pipeline, edit)
    assert (edit.error is not None) == end.startswith("failed")
    gone = weakref.ref(edit.job.image)
    del edit
    assert gone() is None


def test_a_failed_edit_s_error_keeps_its_traceback_as_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the log."""
    pipeline = served()
    edit = pipeline.open(job(1))
    Failing(pipeline, monkeypatch, ValueError)
    finish(pipeline, edit)
    assert isinstance(edit.error, ValueError)
    text = "".join(traceback.format_exception(edit.error))
    assert "in _compute" in text and "in _run" in text and text.count("in _compute") == 1
