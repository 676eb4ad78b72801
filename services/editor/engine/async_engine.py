"""The asyncio side of the engine: decodes requests, submits their edits to the executor, and encodes the results.

One `EditTask` serves every request with the same Idempotency-Key, while it runs and for a while after it has finished.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from cachetools import FIFOCache
from PIL import Image

from services.editor.engine.executor import EditHandle, Executor, Listener, Outcome
from services.editor.pipelines import EditJob, LoraChoice
from services.editor.pipelines.watermark import Watermark, marked
from services.errors import ApiError
from services.imaging import masks
from services.imaging.codec import Effort, ImageLimits, OutputFormat, check_fits, encode
from services.imaging.decode_pool import DecodePool
from services.imaging.sameness import same_pixels

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_MS = 1000.0
_REFERENCE_PIXELS = 4_194_304
"""References are scaled down to it as they are decoded: models work at a quarter of it, and there may be fifteen."""
_MAX_FINISHED = 1024  # finished tasks kept, so that many small ones stay bounded too


class EngineObserver(Protocol):
    """Receives durations and outcomes of requests, on the event loop."""

    def on_stage(self, stage: str, seconds: float) -> None:
        """A stage (``read``, ``queue``, ``edit``, ``write``, and those a pipeline reports) took so long."""
        ...

    def on_finished(self, outcome: str) -> None:
        """A request ended: ``ok``, ``replayed``, ``left``, ``cancelled``, or the code of its error."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How requests are handled.

    Attributes:
        image_limits: what a received picture may cost.
        codec_threads: how many pictures are encoded at a time.
        replay_bytes: size of the finished pictures kept for repeats of their key.
        detached_edit_s: how long an edit with a key stays preempted after its last caller has disconnected.
        effort: how hard pictures are compressed.
        watermark: marks the pixels of edited pictures.
    """

    image_limits: ImageLimits
    codec_threads: int
    replay_bytes: int
    detached_edit_s: float
    effort: Effort
    watermark: Watermark | None = None


@dataclass(frozen=True, slots=True)
class EditRequest:
    """What one request asks for: validated, not yet decoded.

    Attributes:
        image: the encoded source.
        mask: the encoded mask.
        prompt: the instruction, as the pipelines call it.
        negative_prompt: what the picture should not show.
        seeds: one for each picture to return.
        size: (width, height), or None for the source's.
        parameters: the pipeline's own, by name.
        output_format: encoding of the results.
        output_compression: its quality.
        fingerprint: equal for equal requests.
        source: digest of the source.
        previews: unfinished pictures of each edit.
        urgency: head starts in the queue.
        references: the encoded references.
        lora: the LoRA to edit with.
        native_size: whether the results are not scaled.
        draft: whether the edits are drafts.
    """

    image: bytes
    mask: bytes | None
    prompt: str
    negative_prompt: str | None
    seeds: tuple[int, ...]
    size: tuple[int, int] | None
    parameters: dict[str, float]
    output_format: OutputFormat
    output_compression: int | None
    fingerprint: str
    source: str
    previews: int = 0
    urgency: int = 0
    references: tuple[bytes, ...] = ()
    lora: LoraChoice | None = None
    native_size: bool = False
    draft: bool = False


@dataclass(frozen=True, slots=True)
class EditedImage:
    """One encoded result with the report of its edit; durations in milliseconds.

    Attributes:
        unchanged: whether its pixels were the source's before they were encoded.
    """

    data: bytes
    width: int
    height: int
    seed: int
    applied: tuple[str, ...]
    not_understood: tuple[str, ...]
    timings: dict[str, float]
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class PartialImage:
    """An encoded preview: the index of its edit in the request, its number there, and the step it shows."""

    index: int
    number: int
    step: int
    steps: int
    data: bytes
    width: int
    height: int


class EditTask:
    """The work of one request, shared by the callers that repeat its key.

    Args:
        request: what to do.
        key: the Idempotency-Key, if any.

    Attributes:
        accepted: done once the edits are queued.
        images: one future a result, in order.
        handles: the edits at the executor.
        waiters: callers that wait for it.
        admitted: whether it holds capacity of the executor.
        preempted: whether its edits are preempted because every caller disconnected.
        outcome: how it ended, for the metrics.
        partials: the previews so far.
        steps: by index of the edit, (steps done, steps in all).
    """

    def __init__(self, request: EditRequest, key: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.key = key
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.images: list[asyncio.Future[EditedImage]] = [loop.create_future() for _ in request.seeds]
        self.handles: list[EditHandle] = []
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0
        self.admitted = False
        self.preempted = False
        self.outcome = "ok"
        self.partials: list[PartialImage] = []
        self.steps: dict[int, tuple[int, int]] = {}
        self._changed = asyncio.Event()
        futures: list[asyncio.Future[Any]] = [self.accepted, *self.images]
        for future in futures:
            # With no caller left the exception is never read, and asyncio would log that.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            future.add_done_callback(lambda _: self._notify())

    @property
    def done(self) -> bool:
        """Whether nothing more will happen."""
        return self.task is None or self.task.done()

    def set_progress(self, index: int, steps: tuple[int, int]) -> None:
        """Record (steps done, steps in all) of one of the edits."""
        self.steps[index] = steps
        self._notify()

    def add_partial(self, index: int, steps: tuple[int, int], data: bytes, size: tuple[int, int]) -> None:
        """Record an encoded preview; ignored if the finished picture is there already."""
        if self.images[index].done():
            return
        number = sum(partial.index == index for partial in self.partials)
        self.partials.append(PartialImage(index, number, *steps, data, *size))
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until something happens; False if nothing did for so long."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Set the error on every future that is still pending."""
        futures: list[asyncio.Future[Any]] = [self.accepted, *self.images]
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def cancel_edits(self) -> None:
        """Stop the edits that are still at the executor, before their next step."""
        for handle in self.handles:
            handle.future.cancel()

    def discard_inputs(self) -> None:
        """Keep the results and the fingerprint only; call it once the task is done."""
        self.handles = []
        self.partials = []
        self.request = replace(self.request, image=b"", mask=None, references=(), prompt="", negative_prompt=None)

    @property
    def size_bytes(self) -> int:
        """Size of the encoded results."""
        return sum(len(image.result().data) for image in self.images)

    @property
    def succeeded(self) -> bool:
        """Whether every result is there."""
        return all(image.done() and not image.cancelled() and image.exception() is None for image in self.images)


class _TasksByKey:
    """Tasks by their Idempotency-Key: those in flight, and the latest finished ones within a limit of bytes.

    Args:
        limit: bytes of finished pictures to keep.
    """

    def __init__(self, limit: int) -> None:
        self._in_flight: dict[str, EditTask] = {}
        self._finished: FIFOCache[str, EditTask] = FIFOCache(limit, getsizeof=lambda task: task.size_bytes)

    def get(self, key: str) -> EditTask | None:
        """The task of a key."""
        return self._in_flight.get(key) or self._finished.get(key)

    def add(self, task: EditTask) -> None:
        """A task has begun."""
        if task.key is not None:
            self._in_flight[task.key] = task

    def remove(self, key: str) -> None:
        """Forget a key."""
        self._in_flight.pop(key, None)
        self._finished.pop(key, None)

    def finish(self, task: EditTask) -> None:
        """A task is done: keep its results if they fit, evicting the oldest; a failed one may be repeated."""
        if task.key is None or self._in_flight.get(task.key) is not task:
            return
        del self._in_flight[task.key]
        if not task.succeeded or task.size_bytes > self._finished.maxsize:
            return
        self._finished[task.key] = task
        while len(self._finished) > _MAX_FINISHED:
            self._finished.popitem()


class AsyncEngine:
    """All tasks in flight, and those just finished whose key may be repeated.

    Args:
        executor: owns the pipeline.
        observer: receives durations and outcomes.
        options: how requests are handled.
        decoder: decodes what callers send.
    """

    def __init__(self, executor: Executor, observer: EngineObserver, options: EngineOptions, decoder: DecodePool) -> None:
        self._decoder = decoder
        self._executor = executor
        self._observer = observer
        self._options = options
        self._pool = ThreadPoolExecutor(options.codec_threads, thread_name_prefix="codec")
        self._by_key = _TasksByKey(options.replay_bytes)
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, key: str) -> EditTask | None:
        """The task of a key, in flight or just finished."""
        return self._by_key.get(key)

    def check_capacity(self, key: str | None) -> None:
        """Refuse early what would be refused anyway, before its pictures are read.

        Raises:
            ApiError: ``overloaded`` or ``not_ready``.
        """
        if key is None or self._by_key.get(key) is None:
            self._executor.admit()
            self._executor.release()

    def add_request(self, request: EditRequest, key: str | None) -> tuple[EditTask, bool]:
        """Start a task for the request, or join the task of the same key and resume it if needed; True if it was joined.

        Every `add_request` needs one `detach`.

        Raises:
            ApiError: ``overloaded``, ``not_ready``, or ``idempotency_key_reused`` when the key stands for another request.
        """
        known = self._by_key.get(key) if key is not None else None
        if known is not None:
            return self._join(known, request), True
        self._executor.admit(len(request.seeds))
        task = EditTask(request, key)
        task.waiters, task.admitted = 1, True
        task.task = asyncio.create_task(self._run(task))
        self._tasks.add(task.task)
        task.task.add_done_callback(lambda done: self._finish(task, done))
        self._by_key.add(task)
        return task, False

    def _join(self, task: EditTask, request: EditRequest) -> EditTask:
        if task.request.fingerprint != request.fingerprint:
            message = "this Idempotency-Key was used for a different request; use a new key for a new request"
            raise ApiError("idempotency_key_reused", message, param="Idempotency-Key")
        if task.preempted and not task.done:
            self._executor.admit(len(task.request.seeds))
            task.admitted, task.preempted = True, False
            self._executor.resume(task.handles)
        self._observer.on_finished("replayed")
        task.waiters += 1
        return task

    def detach(self, task: EditTask) -> None:
        """A caller no longer waits. When the last one detaches, the edits stop before their next step.

        Without a key they are dropped. With one they are preempted for a while: a caller that comes back (another replica
        that took a session over) continues where they stopped.
        """
        task.waiters -= 1
        if task.waiters > 0 or task.done:
            return
        if task.key is None:
            self._stop(task)
            return
        task.preempted = True
        self._executor.preempt(task.handles, self._options.detached_edit_s)
        self._release(task)

    def abort(self, key: str) -> bool:
        """Stop the edits of a key before their next step, or forget its results; False if the key is unknown."""
        task = self._by_key.get(key)
        if task is None:
            return False
        if task.done:
            self._by_key.remove(key)
        else:
            task.fail(ApiError("edit_cancelled", "the edit was cancelled"))
            task.outcome = "cancelled"
            self._stop(task)
        return True

    def _stop(self, task: EditTask) -> None:
        if task.task is not None:
            task.task.cancel()
        task.cancel_edits()
        self._executor.wake()

    def _release(self, task: EditTask) -> None:
        if task.admitted:
            task.admitted = False
            self._executor.release(len(task.request.seeds))

    async def close(self) -> None:
        """Wait for the tasks in flight (the executor must be stopping), then end the codec threads."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False)

    async def _run(self, task: EditTask) -> None:
        try:
            await self._edit(task)
        except ApiError as exc:
            task.outcome = exc.code
            # Its traceback refers to the picture and the handle, and through the handle's future back to the exception.
            task.fail(exc.with_traceback(None))
        # The edge of a request: an edit that failed in any way must not take the worker down.
        except Exception as exc:
            log.exception("a request failed")
            exc.__traceback__ = None  # as above
            task.outcome = "internal_error"
            task.fail(ApiError("internal_error", "the edit failed; the worker's log says why"))

    def _finish(self, task: EditTask, done: asyncio.Task[None]) -> None:
        """Clean up after a task however it ended, including a cancel before its first step."""
        self._tasks.discard(done)
        task.task = None  # a cancelled one holds its frames, and those the task
        if done.cancelled():
            task.outcome = task.outcome if task.outcome != "ok" else "left"
            task.fail(ApiError("request_timeout", "the caller left before the edit was done"))
        task.cancel_edits()
        self._executor.wake()
        self._release(task)
        task.discard_inputs()
        self._observer.on_finished(task.outcome)
        self._by_key.finish(task)

    async def _edit(self, task: EditTask) -> None:
        request = task.request
        start = time.perf_counter()
        job = await self._read(request)
        read_s = time.perf_counter() - start
        self._observer.on_stage("read", read_s)
        jobs = [job.with_seed(seed) for seed in request.seeds]
        listeners = [self._listener(task, index) for index in range(len(jobs))]
        task.handles = self._executor.submit(jobs, request.urgency, listeners)
        if task.preempted:
            self._executor.preempt(task.handles, self._options.detached_edit_s)
        if not task.accepted.done():
            task.accepted.set_result(None)
        for index, handle in enumerate(task.handles):
            outcome = await self._outcome(handle)
            task.images[index].set_result(await self._write(jobs[index], request, outcome, read_s))

    async def _outcome(self, handle: EditHandle) -> Outcome:
        try:
            return await asyncio.wrap_future(handle.future)
        except ApiError:
            raise
        # What the pipeline raised for this edit; the executor has logged it.
        except Exception:  # noqa: BLE001 - the same edit would fail again: it is not answered as this worker's failure
            blamed = "prompt" if handle.edit is None else handle.edit.blamed
        # Outside the handler: the exception would be kept with this one.
        message = f"the model failed on this edit, probably because of {blamed}: change it (the worker's log says why)"
        raise ApiError("edit_failed", message, param=blamed)

    def _listener(self, task: EditTask, index: int) -> Listener:
        """Forwards an edit's progress from the executor's thread to the event loop."""
        loop = asyncio.get_running_loop()

        def forward(step: int, steps: int, preview: Image.Image | None) -> None:
            # The loop may be closed if the grace period of a shutdown ran out.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_progress, task, index, (step, steps), preview)

        return forward

    def _on_progress(self, task: EditTask, index: int, steps: tuple[int, int], preview: Image.Image | None) -> None:
        task.set_progress(index, steps)
        if preview is None or task.done:
            return
        encoding = asyncio.create_task(self._add_partial(task, index, steps, preview))
        self._tasks.add(encoding)
        encoding.add_done_callback(self._tasks.discard)

    async def _add_partial(self, task: EditTask, index: int, steps: tuple[int, int], preview: Image.Image) -> None:
        data = await self._in_codec_thread(lambda: self._encode(preview, task.request))
        task.add_partial(index, steps, data, preview.size)

    def _encode(self, picture: Image.Image, request: EditRequest) -> bytes:
        return encode(picture, request.output_format, request.output_compression, self._options.effort)

    async def _read(self, request: EditRequest) -> EditJob:
        image = await self._decoder.decode(request.image, limits=self._options.image_limits)
        # Before the edit, which would be for nothing.
        check_fits(request.size or image.size, request.output_format)
        mask = None if request.mask is None else await self._read_mask(request.mask, image)
        limits = self._options.image_limits
        references = [
            await self._decoder.decode(data, limits=limits, max_pixels=_REFERENCE_PIXELS, param=f"image[{number}]")
            for number, data in enumerate(request.references, 1)
        ]
        job = EditJob(
            image,
            request.prompt,
            mask=mask,
            negative_prompt=request.negative_prompt,
            size=request.size,
            parameters=request.parameters,
            source=request.source,
            previews=request.previews,
            references=tuple(references),
            lora=request.lora,
            native_size=request.native_size,
            draft=request.draft,
        )
        return await self._in_codec_thread(lambda: self._executor.pipeline.prepare(job))

    async def _read_mask(self, data: bytes, image: Image.Image) -> Image.Image:
        mask = await self._decoder.decode(data, limits=self._options.image_limits, param="mask")
        masks.check(mask, image.size)
        return mask

    async def _write(self, job: EditJob, request: EditRequest, outcome: Outcome, read_s: float) -> EditedImage:
        start = time.perf_counter()
        pipeline = self._executor.pipeline

        def finish() -> tuple[bytes, tuple[int, int], bool]:
            picture = pipeline.finish(job, outcome.result).image
            whole = job.source_size in {None, job.image.size}
            unchanged = whole and same_pixels(job.image, picture)
            if self._options.watermark is not None and not unchanged:
                picture = marked(self._options.watermark, picture)
            return self._encode(picture, request), picture.size, unchanged

        data, size, unchanged = await self._in_codec_thread(finish)
        stages = {"queue": outcome.queue_s, **outcome.stages, "edit": outcome.edit_s, "write": time.perf_counter() - start}
        for stage, seconds in stages.items():
            self._observer.on_stage(stage, seconds)
        timings = {f"{stage}_ms": round(seconds * _MS, 3) for stage, seconds in {"read": read_s, **stages}.items()}
        if outcome.steps:
            timings |= {"steps": outcome.steps, "batch_size": round(outcome.batch, 2)}
        result = outcome.result
        return EditedImage(data, *size, job.seed, result.applied, result.not_understood, timings, unchanged)

    async def _in_codec_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
