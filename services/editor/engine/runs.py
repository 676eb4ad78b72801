"""Requests under way: read beside the pipeline, edit on it, write beside it; repeats of a key join the same run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from services.editor.engine.executor import Executor
from services.editor.engine.replays import Replays
from services.editor.engine.run import Edited, Order, Run
from services.editor.engine.tickets import Listener, Outcome
from services.editor.metrics import Metrics
from services.editor.pipelines import EditJob
from services.errors import ApiError
from services.imaging.codec import Effort, ImageLimits, decode, encode

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_MS = 1000.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How requests are handled.

    Attributes:
        image: what a received picture may cost.
        threads: how many pictures are decoded and encoded at a time.
        replay_bytes: how many bytes of finished pictures are kept for repeats.
        linger_s: how long an edit with a key waits for its caller to come back, once that has left.
        effort: how hard pictures are compressed.
    """

    image: ImageLimits
    threads: int
    replay_bytes: int
    linger_s: float
    effort: Effort


class Runs:
    """All requests under way, and those just finished whose key may be repeated.

    Args:
        executor: owns the pipeline.
        telemetry: is told durations and outcomes.
        limits: how requests are handled.
    """

    def __init__(self, executor: Executor, telemetry: Metrics, limits: RunLimits) -> None:
        self._executor = executor
        self._telemetry = telemetry
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="codec")
        self._replays = Replays(limits.replay_bytes)
        self._tasks: set[asyncio.Task[None]] = set()

    def check_room(self, key: str | None) -> None:
        """Refuse early what would be refused anyway, before its pictures are read.

        Raises:
            ApiError: ``overloaded`` or ``not_ready``.
        """
        if key is None or self._replays.get(key) is None:
            self._executor.admit()
            self._executor.release()

    def begin(self, order: Order, key: str | None) -> tuple[Run, bool]:
        """Start the order, or join the run of the same key, going on where it stopped; True if it was joined.

        Every `begin` needs one `leave`.

        Raises:
            ApiError: ``overloaded``, ``not_ready``, or ``idempotency_key_reused`` when the key stood for another request.
        """
        known = self._replays.get(key) if key is not None else None
        if known is not None:
            return self._join(known, order), True
        self._executor.admit(len(order.seeds))
        run = Run(order, key)
        run.waiters, run.inside = 1, True
        run.task = asyncio.create_task(self._carry_out(run))
        self._tasks.add(run.task)
        run.task.add_done_callback(lambda task: self._close(run, task))
        self._replays.add(run)
        return run, False

    def _join(self, run: Run, order: Order) -> Run:
        if run.order.fingerprint != order.fingerprint:
            message = "this Idempotency-Key was used for a different request; use a new key for a new request"
            raise ApiError("idempotency_key_reused", message, param="Idempotency-Key")
        if run.held and not run.over:
            self._executor.admit(len(run.order.seeds))
            run.inside, run.held = True, False
            self._executor.resume(run.tickets)
        self._telemetry.finished("replayed")
        run.waiters += 1
        return run

    def leave(self, run: Run) -> None:
        """A caller no longer waits. When the last one leaves, the edit stops before its next step.

        Without a key it is dropped. With one it is set aside for a while: a caller that comes back (another replica
        that took a session over) goes on where it stopped.
        """
        run.waiters -= 1
        if run.waiters > 0 or run.over:
            return
        if run.key is None:
            self._stop(run)
            return
        run.held = True
        self._executor.hold(run.tickets, self._limits.linger_s)
        self._release(run)

    def cancel(self, key: str) -> bool:
        """Stop the edit of a key before its next step, and forget what was kept under it; False if there is none."""
        run = self._replays.get(key)
        if run is None:
            return False
        if run.over:
            self._replays.forget(run)
        else:
            run.fail(ApiError("edit_cancelled", "the edit was cancelled"))
            run.outcome = "cancelled"
            self._stop(run)
        return True

    def _stop(self, run: Run) -> None:
        if run.task is not None:
            run.task.cancel()
        run.drop_tickets()
        self._executor.notice()

    def _release(self, run: Run) -> None:
        if run.inside:
            run.inside = False
            self._executor.release(len(run.order.seeds))

    async def close(self) -> None:
        """Wait for what is under way (the executor must be stopping), then end the codec threads."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False)

    async def _carry_out(self, run: Run) -> None:
        try:
            await self._edit(run)
        except ApiError as exc:
            run.outcome = exc.code
            # Its traceback leads to the picture, the ticket, and through the ticket's answer back to itself.
            run.fail(exc.with_traceback(None))
        # The edge of the work: an edit that broke in any way is this request's failure and not the worker's.
        except Exception as exc:
            log.exception("a request failed")
            exc.__traceback__ = None  # as above
            run.outcome = "internal_error"
            run.fail(ApiError("internal_error", "the edit failed; the worker's log says why"))

    def _close(self, run: Run, task: asyncio.Task[None]) -> None:
        """Tidy up after a run, however it ended; also when it was cancelled before its first step."""
        self._tasks.discard(task)
        run.task = None  # a cancelled one holds its frames, and they the run
        if task.cancelled():
            run.outcome = run.outcome if run.outcome != "ok" else "left"
            run.fail(ApiError("request_timeout", "the caller left before the edit was done"))
        run.drop_tickets()
        self._executor.notice()
        self._release(run)
        run.slim()
        self._telemetry.finished(run.outcome)
        self._replays.settle(run)

    async def _edit(self, run: Run) -> None:
        order = run.order
        start = time.perf_counter()
        job = await self._codec(lambda: self._read(order))
        read_s = time.perf_counter() - start
        self._telemetry.took("read", read_s)
        jobs = [job.with_seed(seed) for seed in order.seeds]
        listeners = [self._listener(run, place) for place in range(len(jobs))]
        run.tickets = self._executor.submit(jobs, order.urgency, listeners)
        if run.held:
            self._executor.hold(run.tickets, self._limits.linger_s)
        if not run.accepted.done():
            run.accepted.set_result(None)
        for place, ticket in enumerate(run.tickets):
            outcome = await asyncio.wrap_future(ticket.answer)
            run.images[place].set_result(await self._write(jobs[place], order, outcome, read_s))

    def _listener(self, run: Run, place: int) -> Listener:
        """Brings news of an edit from the executor's thread to the event loop."""
        loop = asyncio.get_running_loop()

        def tell(step: int, steps: int, preview: Image.Image | None) -> None:
            # The loop may be closed when a shutdown lost its patience.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._news, run, place, (step, steps), preview)

        return tell

    def _news(self, run: Run, place: int, steps: tuple[int, int], preview: Image.Image | None) -> None:
        run.progressed(place, steps)
        if preview is None or run.over:
            return
        task = asyncio.create_task(self._show(run, place, steps, preview))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _show(self, run: Run, place: int, steps: tuple[int, int], preview: Image.Image) -> None:
        order = run.order
        data = await self._codec(lambda: encode(preview, order.output_format, order.output_compression, self._limits.effort))
        run.previewed(place, steps, data, preview.size)

    def _read(self, order: Order) -> EditJob:
        image = decode(order.image, limits=self._limits.image)
        mask = None if order.mask is None else self._read_mask(order.mask, image)
        job = EditJob(
            image,
            order.prompt,
            mask=mask,
            negative_prompt=order.negative_prompt,
            size=order.size,
            parameters=order.parameters,
            source=order.source,
            previews=order.previews,
        )
        return self._executor.pipeline.prepare(job)

    def _read_mask(self, data: bytes, image: Image.Image) -> Image.Image:
        mask = decode(data, limits=self._limits.image, param="mask")
        if mask.mode != "RGBA":
            raise ApiError("invalid_image", "mask has no transparency; make the pixels to edit transparent", param="mask")
        if mask.size != image.size:
            sizes = f"{mask.width}x{mask.height}, the image {image.width}x{image.height}"
            raise ApiError("invalid_image", f"mask is {sizes}; send both in one size", param="mask")
        return mask

    async def _write(self, job: EditJob, order: Order, outcome: Outcome, read_s: float) -> Edited:
        start = time.perf_counter()
        pipeline = self._executor.pipeline

        def finish() -> tuple[bytes, tuple[int, int]]:
            picture = pipeline.finish(job, outcome.result).image
            return encode(picture, order.output_format, order.output_compression, self._limits.effort), picture.size

        data, size = await self._codec(finish)
        stages = {"queue": outcome.queue_s, **outcome.stages, "edit": outcome.edit_s, "write": time.perf_counter() - start}
        for stage, seconds in stages.items():
            self._telemetry.took(stage, seconds)
        timings = {f"{stage}_ms": round(seconds * _MS, 3) for stage, seconds in {"read": read_s, **stages}.items()}
        if outcome.steps:
            timings |= {"steps": outcome.steps, "batch_size": round(outcome.batch, 2)}
        result = outcome.result
        return Edited(data, *size, job.seed, result.applied, result.not_understood, timings)

    async def _codec(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


__all__ = ["Edited", "Order", "Run", "RunLimits", "Runs"]
