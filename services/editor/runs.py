"""Requests under way: decode beside the pipeline, edit on it, encode beside it; repeats of a key join the same run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from PIL import Image

from services.editor.executor import Executor, Outcome
from services.editor.pipelines import EditJob
from services.editor.telemetry import Telemetry
from services.wire.errors import ApiError
from services.wire.images import ImageLimits, OutputFormat, decode, encode

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_MS = 1000.0
_MOST_KEPT = 1024  # finished answers; small ones must not add up beside `replay_bytes`


@dataclass(frozen=True, slots=True)
class Order:
    """What one request asks for, checked but not yet decoded.

    ``images`` has one seed for each picture to return. ``fingerprint`` is equal for equal requests.
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


@dataclass(frozen=True, slots=True)
class Edited:
    """One encoded picture and the account of its edit; durations in milliseconds."""

    data: bytes
    width: int
    height: int
    seed: int
    applied: tuple[str, ...]
    not_understood: tuple[str, ...]
    timings: dict[str, float]


class Run:
    """One request's work. Its pictures arrive one by one in ``images``; ``accepted`` is done when it is in line."""

    def __init__(self, order: Order, key: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.order = order
        self.key = key
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.images: list[asyncio.Future[Edited]] = [loop.create_future() for _ in order.seeds]
        self.jobs: list[Future[Outcome]] = []
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0
        self.outcome = "ok"
        futures: list[asyncio.Future[Any]] = [self.accepted, *self.images]
        for future in futures:
            # Nobody may be left to read an error; asyncio would log it as forgotten.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def fail(self, error: Exception) -> None:
        """Give the error to whoever still waits for something."""
        futures: list[asyncio.Future[Any]] = [self.accepted, *self.images]
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def slim(self) -> None:
        """Drop everything but the answer and what tells a repeat from another request; only when the task is through."""
        for job in self.jobs:
            job.cancel()
        self.jobs = []
        self.order = replace(self.order, image=b"", mask=None, prompt="", negative_prompt=None)

    @property
    def weight(self) -> int:
        """Bytes that keeping this run's pictures costs."""
        return sum(len(image.result().data) for image in self.images)

    @property
    def succeeded(self) -> bool:
        """Whether every picture is there."""
        return all(image.done() and not image.cancelled() and image.exception() is None for image in self.images)


class Runs:
    """All requests under way, and those just finished whose key may be repeated.

    Args:
        executor: owns the pipeline.
        telemetry: is told durations and outcomes.
        limits: what a received picture may cost.
        threads: how many decode and encode at a time.
        replay_bytes: how many bytes of finished pictures are kept for repeats.
    """

    def __init__(self, executor: Executor, telemetry: Telemetry, limits: ImageLimits, *, threads: int, replay_bytes: int) -> None:
        self._executor = executor
        self._telemetry = telemetry
        self._limits = limits
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self._replay_bytes = replay_bytes
        self._by_key: OrderedDict[str, Run] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, order: Order, key: str | None) -> Run:
        """Start the order, or join the run of the same key. Every `begin` needs one `leave`.

        Raises:
            ApiError: ``overloaded``, ``not_ready``, or ``idempotency_key_reused`` when the key stood for another request.
        """
        known = self._by_key.get(key) if key is not None else None
        if known is not None:
            if known.order.fingerprint != order.fingerprint:
                message = "this Idempotency-Key was used for a different request; use a new key for a new request"
                raise ApiError("idempotency_key_reused", message, param="Idempotency-Key")
            self._telemetry.finished("replayed")
            known.waiters += 1
            return known
        self._executor.admit()
        run = Run(order, key)
        run.waiters = 1
        run.task = asyncio.create_task(self._carry_out(run))
        self._tasks.add(run.task)
        run.task.add_done_callback(lambda task: self._close(run, task))
        if key is not None:
            self._by_key[key] = run
        return run

    def leave(self, run: Run) -> None:
        """A caller no longer waits. The last one's leaving stops what has not reached the pipeline yet."""
        run.waiters -= 1
        if run.waiters > 0 or run.task is None or run.task.done():
            return
        # Work that already runs cannot be stopped; with a key its answer may still be asked for again.
        if run.key is None or not any(job.running() or job.done() for job in run.jobs):
            run.task.cancel()

    async def close(self) -> None:
        """Wait for what is under way (the executor must be stopping), then end the codec threads."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False)

    async def _carry_out(self, run: Run) -> None:
        try:
            await self._edit(run)
        except ApiError as exc:
            run.outcome = exc.code
            run.fail(exc)
        # The edge of the work: an edit that broke in any way is this request's failure and not the worker's.
        except Exception:
            log.exception("a request failed")
            run.outcome = "internal_error"
            run.fail(ApiError("internal_error", "the edit failed; the worker's log says why"))

    def _close(self, run: Run, task: asyncio.Task[None]) -> None:
        """Tidy up after a run, however it ended; also when it was cancelled before its first step."""
        self._tasks.discard(task)
        self._executor.release()
        if task.cancelled():
            run.outcome = "left"
            run.fail(ApiError("request_timeout", "the caller left before the edit was done"))
        run.slim()
        self._telemetry.finished(run.outcome)
        self._keep_or_forget(run)

    async def _edit(self, run: Run) -> None:
        order = run.order
        start = time.perf_counter()
        image, mask = await self._codec(lambda: self._decode(order))
        decode_s = time.perf_counter() - start
        self._telemetry.took("decode", decode_s)
        jobs = [
            EditJob(image, order.prompt, seed, mask, order.negative_prompt, order.size, order.parameters) for seed in order.seeds
        ]
        run.jobs = self._executor.submit(jobs)
        if not run.accepted.done():
            run.accepted.set_result(None)
        for place, job in enumerate(run.jobs):
            outcome = await asyncio.wrap_future(job)
            run.images[place].set_result(await self._encode(order, order.seeds[place], outcome, decode_s))

    def _decode(self, order: Order) -> tuple[Image.Image, Image.Image | None]:
        image = decode(order.image, limits=self._limits)
        if order.mask is None:
            return image, None
        mask = decode(order.mask, limits=self._limits, param="mask")
        if mask.mode != "RGBA":
            raise ApiError("invalid_image", "mask has no transparency; make the pixels to edit transparent", param="mask")
        if mask.size != image.size:
            sizes = f"{mask.width}x{mask.height}, the image {image.width}x{image.height}"
            raise ApiError("invalid_image", f"mask is {sizes}; send both in one size", param="mask")
        return image, mask

    async def _encode(self, order: Order, seed: int, outcome: Outcome, decode_s: float) -> Edited:
        start = time.perf_counter()
        picture = outcome.result.image
        data = await self._codec(lambda: encode(picture, order.output_format, order.output_compression))
        encode_s = time.perf_counter() - start
        stages = {"queue": outcome.queue_s, "edit": outcome.edit_s, "encode": encode_s}
        for stage, seconds in stages.items():
            self._telemetry.took(stage, seconds)
        timings = {f"{stage}_ms": round(seconds * _MS, 3) for stage, seconds in {**stages, "decode": decode_s}.items()}
        result = outcome.result
        return Edited(data, picture.width, picture.height, seed, result.applied, result.not_understood, timings)

    async def _codec(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _keep_or_forget(self, run: Run) -> None:
        """Keep a good answer under its key while there is room, the latest first; a failure may be tried again."""
        if run.key is None or self._by_key.get(run.key) is not run:
            return
        if not run.succeeded:
            del self._by_key[run.key]
            return
        self._by_key.move_to_end(run.key)
        kept = [known for known in self._by_key.values() if known.succeeded]
        total = sum(known.weight for known in kept)
        for left, known in zip(range(len(kept), 0, -1), kept, strict=True):
            if total <= self._replay_bytes and left <= _MOST_KEPT:
                return
            total -= known.weight
            self._by_key.pop(known.key or "")
