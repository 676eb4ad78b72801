"""A thread pool with a bounded queue, for CPU work."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.errors import ApiError

T = TypeVar("T")


class BoundedPool:
    """A pool of `workers` threads with at most `queue` functions queued; `busy` counts both.

    Threads are enough: the measurements spend their time in numpy and OpenCV, which release the GIL.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="critique")
        self._capacity = workers + queue
        self.busy = 0

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, run on a thread.

        Raises:
            ApiError: ``overloaded``, immediately, when the queue is full.
        """
        if self.busy >= self._capacity:
            message = f"{self.busy} critiques are running or queued, which is the limit; retry in a second"
            raise ApiError("overloaded", message, retry_after=1)
        self.busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, contextvars.copy_context().run, work)
        # A cancelled caller does not stop the thread, so capacity is released when the work ends.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[T]) -> None:
        self.busy -= 1
        if not future.cancelled():
            # Retrieved, so that asyncio does not log the exception of a cancelled caller as never retrieved.
            future.exception()

    def close(self) -> None:
        """Wait for running work, cancel queued work, and stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
