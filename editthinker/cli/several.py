"""Many sessions at a time, of a batch or an evaluation: the tenant's quota, errors that stop all of them, and signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from editthinker.cli.failures import UsageError
from editthinker.client import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    AsyncEditThinker,
    EditThinkerError,
    RateLimitError,
    Retries,
)

RETRIES: Final = Retries(attempts=10, reconnects=20, max_retry_after=300.0)
"""More patient than for one edit: a quota or a restart of the server is waited for."""
_STOPPING: Final = frozenset({401, 403, 429, 503, 507})
"""Statuses that every other session would get too."""


def client(base_url: str, api_key: str | None, retries: Retries = RETRIES) -> AsyncEditThinker:
    """A client for many sessions.

    Raises:
        UsageError: for an invalid URL or key.
    """
    try:
        return AsyncEditThinker(base_url, api_key or "", retries=retries)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


class UnderWay:
    """The sessions of this process that are under way.

    A tenant may have fewer unfinished sessions than there are jobs: the server then refuses new ones until one has ended.
    """

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Event()
        self.ends = 0
        """How many have ended."""

    @contextmanager
    def one(self) -> Iterator[None]:
        """A session is under way in the block: from the request that creates it, for it can hold the quota before its answer
        is here. With `RateLimitError` none has ended.
        """
        self._count += 1
        ended = True
        try:
            yield
        except RateLimitError:
            ended = False
            raise
        finally:
            self._count -= 1
            self.ends += ended
            self._changed.set()
            self._changed = asyncio.Event()

    async def one_ends(self, ends: int) -> bool:
        """Wait until more than ``ends`` have ended; False as soon as none is under way that could."""
        while self.ends == ends:
            if not self._count:
                return False
            await self._changed.wait()
        return True


def stops(exc: EditThinkerError) -> bool:
    """Whether the other sessions would fail in the same way."""
    if isinstance(exc, APIStatusError):
        return exc.status in _STOPPING
    return isinstance(exc, APIConnectionError | APIResponseError)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of its own. A signal cancels it, so that it ends between two steps and not within one.

    Raises:
        KeyboardInterrupt: for Ctrl-C, SIGTERM and SIGHUP.
        BaseException: the first one of a group.
    """
    with _handlers_restored():
        try:
            asyncio.run(_cancelled_by_signals(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        except BaseExceptionGroup as group:
            raise _first(group) from None


async def _cancelled_by_signals(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    for each in _signals():
        try:
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
        except NotImplementedError:
            break  # on Windows, where Ctrl-C raises KeyboardInterrupt
    await work


def _first(group: BaseExceptionGroup) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _signals() -> list[signal.Signals]:
    # Windows has no SIGHUP.
    return [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]


@contextmanager
def _handlers_restored() -> Iterator[None]:
    """A loop that ends leaves its signals at their defaults; the stack must still be stopped after that."""
    before = {each: signal.getsignal(each) for each in _signals()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
