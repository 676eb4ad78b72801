"""What a finished task keeps, and edits that end after the grace period of a shutdown."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from typing import Any

import pytest
from PIL import Image

from services.editor.api import images, stream
from services.editor.engine import async_engine
from services.editor.engine.async_engine import EditRequest
from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.metrics import Metrics
from services.editor.pipelines import Capabilities, EditJob, EditResult, PipelineBrokenError, SingleStepPipeline
from services.errors import ApiError
from tests.doubles.clock import manual_time
from tests.doubles.waiting import until, wait
from tests.unit.editor.workers import HeldPipeline, client, context, png, post, running


class WeaklyReferencing(HeldPipeline):
    """Keeps weak references to the pictures of its jobs."""

    def __init__(self) -> None:
        super().__init__(Capabilities(mask=True))
        self.pictures: list[weakref.ref[Image.Image]] = []

    def edit(self, job: EditJob) -> EditResult:
        made = Image.new("RGB", job.image.size)
        sources = [job.image, *([job.mask] if job.mask else [])]
        self.pictures += [weakref.ref(picture) for picture in (*sources, made)]
        return EditResult(made, (), ())


async def test_a_finished_task_keeps_only_its_results() -> None:
    pipeline = WeaklyReferencing()
    source, mask, key = png((37, 23)), png((37, 23), "#00000000", "RGBA"), {"idempotency-key": "k"}
    async with running(lambda: pipeline) as app, client(app) as http:
        pipeline.pictures.clear()
        first = (await post(http, key, image=source, mask=mask, seed=1, n=2, prompt="golden hour")).json()
        await until(lambda: context(app).executor.in_flight == 0)
        gc.collect()
        assert len(pipeline.pictures) == 6
        assert [alive() for alive in pipeline.pictures if alive() is not None] == []
        requests: list[EditRequest] = [
            thing for thing in gc.get_objects() if type(thing) is EditRequest
        ]  # torch has objects that warn of isinstance
        assert not [
            request for request in requests if request.image == source or request.mask == mask or request.prompt == "golden hour"
        ]
        again = await post(http, key, image=source, mask=mask, seed=1, n=2, prompt="golden hour")
        streamed = await post(http, {"idempotency-key": "s"}, image=source, stream="true")
        replayed = await post(http, {"idempotency-key": "s"}, image=source, stream="true")
    assert again.json()["data"] == first["data"]
    assert replayed.text.count("image_edit.completed") == streamed.text.count("image_edit.completed") > 0


async def test_finished_tasks_are_capped_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_engine, "_MAX_FINISHED", 2)
    pipeline = HeldPipeline()
    async with running(lambda: pipeline) as app, client(app) as http:
        for key in ("a", "b", "c", "c", "b"):
            assert (await post(http, {"idempotency-key": key})).status_code == 200
            await until(lambda: context(app).executor.in_flight == 0)
        assert pipeline.edits == 3
        await post(http, {"idempotency-key": "a"})
        assert pipeline.edits == 4


@pytest.mark.parametrize("fields", [{}, {"stream": "true"}], ids=["json", "stream"])
async def test_only_a_shared_answer_is_marked_as_a_replay(fields: dict[str, Any]) -> None:
    """One that joined a running task or a finished one; not the first one, nor one without a key."""
    pipeline = HeldPipeline()
    key = {"idempotency-key": "k"}
    async with running(lambda: pipeline) as app, client(app) as http:
        pipeline.gate.clear()
        first = asyncio.create_task(post(http, key, **fields))
        await until(lambda: pipeline.edits == 1)
        joined = asyncio.create_task(post(http, key, **fields))
        task = context(app).engine.find("k")
        await until(lambda: task is not None and task.waiters == 2)
        pipeline.gate.set()
        replies = [await first, await joined, await post(http, key, **fields), await post(http, **fields)]
    assert [reply.status_code for reply in replies] == [200] * 4
    assert [reply.headers.get("idempotent-replayed") for reply in replies] == [None, "true", "true", None]


async def test_the_total_is_each_requests_own_from_its_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one includes its time in the queue; a replay takes no time, but has the edit's own durations."""
    pipeline, clock = HeldPipeline(), manual_time(monkeypatch, images, stream, async_engine)
    async with running(lambda: pipeline) as app, client(app) as http:
        pipeline.gate.clear()
        asking = asyncio.create_task(post(http, {"idempotency-key": "k"}, seed=1))
        await until(lambda: pipeline.edits == 1)
        queued = asyncio.create_task(post(http, seed=2))
        await until(lambda: context(app).executor.waiting == 1)
        clock.advance(0.2)
        pipeline.gate.set()
        first, second = (await asking).json()["timings"], (await queued).json()["timings"]
        again = (await post(http, {"idempotency-key": "k"}, seed=1)).json()["timings"]
        streamed = (await post(http, seed=1, stream="true")).text
    assert first["total_ms"] == second["total_ms"] == 200 and second["queue_ms"] > first["queue_ms"]
    assert again["total_ms"] == 0 and again["edit_ms"] == first["edit_ms"]
    timings = json.loads(streamed.partition("data: ")[2])["timings"]
    assert set(timings) == set(first) and timings["total_ms"] == 0


def _started(pipeline: HeldPipeline) -> Executor:
    executor = Executor(lambda: SingleStepPipeline(pipeline), Metrics(), OperatorLimits(1, None), queue=3)
    executor.start()
    wait(lambda: executor.state is not State.STARTING)
    return executor


@pytest.mark.parametrize("error", [None, MemoryError(), ValueError("no"), PipelineBrokenError("gone")], ids=repr)
def test_an_edit_that_ends_after_the_grace_period_of_a_shutdown_is_ignored(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = HeldPipeline()
    executor = _started(pipeline)
    pipeline.gate.clear()
    executor.admit()
    handles = executor.submit([EditJob(Image.new("RGB", (4, 4)), "x", seed) for seed in (1, 2)])
    while pipeline.edits == 0:
        threading.Event().wait(0.005)
    pipeline.error = error
    executor.stop(0.05)
    executor.release()
    for handle in handles:
        failure = handle.future.exception(5)
        assert isinstance(failure, ApiError) and failure.code == "not_ready"

    pipeline.gate.set()
    executor._thread.join(10)

    assert not executor._thread.is_alive()
    assert pipeline.edits == 1
    assert "InvalidStateError" not in caplog.text
