"""A bounded pool for work on the CPU: so many at a time, so many waiting, and no more."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.errors import ApiError

T = TypeVar("T")


class Workers:
    """Runs functions on `workers` threads while at most `queue` more wait.

    The measuring code spends its time in numpy and OpenCV, which let go of the interpreter.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="critique")
        self._room = workers + queue
        self._busy = 0

    @property
    def busy(self) -> int:
        """Functions running or waiting."""
        return self._busy

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, run on a thread.

        Raises:
            ApiError: ``overloaded`` at once, when no room is left.
        """
        if self._busy >= self._room:
            message = f"{self._busy} critiques are running or waiting, which is the limit; retry in a second"
            raise ApiError("overloaded", message, retry_after=1)
        self._busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, contextvars.copy_context().run, work)
        # A caller that left does not stop the thread: the room is given back when the work ends.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[T]) -> None:
        self._busy -= 1
        if not future.cancelled():
            # Read it, so that a failure nobody waits for is not reported as lost.
            future.exception()

    def close(self) -> None:
        """Wait for the running work and stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
