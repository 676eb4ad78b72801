"""How long to wait for an upstream: the time of a call, the time limit of each request, and when not to ask at all.

Theory of operation. A `Patience` is the time of one call, over all its requests and over the fallback; nothing else in this
package counts down. A server that takes a request and never answers is told from a slow one by how long it usually takes, as TCP
tells a lost segment (RFC 6298): `UpstreamHealth` keeps the mean and the mean deviation of the answers, and a request without an
answer is given up after twice ``mean + 4 deviations``. Each unanswered request in a row doubles that, so that an upstream whose
work became heavier is waited for in the end, and after `_UNANSWERED` of them the breaker opens: then one request at a time finds
out whether it is back, and the others ask the fallback, or wait.

Until the pace is known a request gets a configured time, but no more than half of the call's, so that a repeat has the rest. A
request never gets more than that half if the usual time fits into it; if it does not, no repeat would finish anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

_MEAN_WEIGHT: Final = 1 / 8
_DEVIATION_WEIGHT: Final = 1 / 4
_DEVIATIONS: Final = 4.0
"""RFC 6298, section 2."""
_MARGIN: Final = 2.0
"""Edits differ more than round trips: twice the steps, twice the time."""
_UNANSWERED: Final = 5
"""Requests in a row without an answer that open the breaker."""
_FIRST_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 30.0
_KEEPALIVE_LIMITS: Final = 4
"""Limits for which keepalives prolong a request: something may send them on behalf of a process that hangs."""
_MIN_BYTES_PER_S: Final = 256 * 1024
"""A transfer may take a second more for each of these bytes; a connection that drips may not."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The time of one call.

    Attributes:
        ends: when its result is of no more use (monotonic seconds).
        start_by: when it is too late to begin (monotonic seconds).
        others: whether another upstream can be asked after this one.
    """

    ends: float
    start_by: float = math.inf
    others: bool = False

    @classmethod
    def of(cls, timeout_s: float, start_s: float = math.inf) -> Patience:
        """The time of a call that begins now and ends in `timeout_s`; after `start_s` it is too late to begin."""
        now, timeout_s = time.monotonic(), max(0.0, timeout_s)
        return cls(now + timeout_s, now + min(max(0.0, start_s), timeout_s))

    def with_others(self, others: bool) -> Patience:  # noqa: FBT001 - a value, not a flag
        """The same time, with or without another upstream to ask after this one."""
        return replace(self, others=others)

    def left_s(self) -> float:
        """Seconds until its end."""
        return max(0.0, self.ends - time.monotonic())

    def to_start_s(self) -> float:
        """Seconds in which it may begin."""
        return max(0.0, min(self.start_by, self.ends) - time.monotonic())

    def for_upstream(self, health: UpstreamHealth, most_s: float) -> Patience:
        """What one upstream may use of it: at most `most_s` seconds; and half, or what it usually takes, if another can be
        asked after it.
        """
        left_s = self.left_s()
        share_s = max(left_s / 2, health.usual_s or 0.0) if self.others else left_s
        return replace(self, ends=self.ends - left_s + min(left_s, share_s, most_s))


class UpstreamHealth:
    """What one replica knows of an upstream: how long its answers take, and whether it answers at all.

    Args:
        first_s: the time limit of a request while the pace is not known.
        min_s, max_s: bounds of the limit.
        clock: monotonic seconds.
        on_change: called with whether the breaker is open, when that changes.
        on_unanswered: called at each request without an answer.
    """

    def __init__(
        self,
        *,
        first_s: float = 120.0,
        min_s: float = 10.0,
        max_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], None] = lambda _: None,
        on_unanswered: Callable[[], None] = lambda: None,
    ) -> None:
        self._first_s, self._min_s, self._max_s = first_s, min_s, max_s
        self._clock = clock
        self._on_change = on_change
        self._on_unanswered = on_unanswered
        self._mean_s: float | None = None
        self._deviation_s = 0.0
        self._unanswered = 0
        self._rounds = 0
        self._round_at = -math.inf
        """Unanswered requests that were sent one after the other, and when the last of them was given up."""
        self._rounds_before = 0
        """Of these, before the breaker opened."""
        self._probing = False
        self._ask_at = -math.inf
        self._changed = asyncio.Event()

    @property
    def usual_s(self) -> float | None:
        """Seconds within which nearly all answers come; None while that is not known."""
        return None if self._mean_s is None else self._mean_s + _DEVIATIONS * self._deviation_s

    @property
    def is_open(self) -> bool:
        """Whether a request would not be sent now: the last ones had no answer, and it is not time to try another."""
        return self._unanswered >= _UNANSWERED and (self._probing or self._clock() < self._ask_at)

    def limit_s(self, left_s: float) -> float:
        """Seconds that the next request may go without an answer, of a call with `left_s` seconds left."""
        usual_s, doublings = self.usual_s, min(self._rounds, 16)
        limit_s = (self._first_s if usual_s is None else _MARGIN * usual_s) * float(2**doublings)
        # Half of the time, and more of it after each request that was given up: else an upstream that needs more than half
        # would never be heard.
        share_s = left_s * (1 - 0.5 ** (doublings + 1))
        return max(self._min_s, min(limit_s, self._max_s, max(share_s, usual_s or 0.0)))

    def answered(self, seconds: float | None = None) -> None:
        """It answered; `seconds` after it had the request, if that was the work asked for."""
        was_open = self._unanswered >= _UNANSWERED
        self._unanswered = self._rounds = 0
        if seconds is not None and self._mean_s is None:
            self._mean_s, self._deviation_s = seconds, seconds / 2
        elif seconds is not None and self._mean_s is not None:
            self._deviation_s += _DEVIATION_WEIGHT * (abs(seconds - self._mean_s) - self._deviation_s)
            self._mean_s += _MEAN_WEIGHT * (seconds - self._mean_s)
        if was_open:
            self._changed.set()
            self._on_change(False)

    def unanswered(self, began: float | None = None) -> None:
        """It could not be reached, hung up, or was silent for the time that it had, in a request that began then (now if None).

        Requests that were in flight together show the same once: only the first of them doubles limit and pause.
        """
        now = self._clock()
        self._unanswered += 1
        self._on_unanswered()
        again = (now if began is None else began) >= self._round_at
        if again:
            self._rounds, self._round_at = self._rounds + 1, now
        if self._unanswered == _UNANSWERED:
            self._changed.clear()
            self._on_change(True)
            self._rounds_before = self._rounds
        if self._unanswered == _UNANSWERED or (again and self._unanswered > _UNANSWERED):
            pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._rounds - self._rounds_before, 16))
            # Replicas that lost the same upstream do not all come back to it in one moment.
            self._ask_at = now + pause_s * random.uniform(0.5, 1.0)

    async def wait_closed(self) -> None:
        """Wait until a request may be sent."""
        while self.is_open:
            pause_s = _FIRST_PAUSE_S if self._probing else self._ask_at - self._clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, pause_s)):
                    await self._changed.wait()

    @contextlib.asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Send one request within it; while the breaker is open, it is the only one."""
        probe = self._unanswered >= _UNANSWERED and not self._probing
        self._probing = self._probing or probe
        try:
            yield
        finally:
            if probe:
                self._probing = False


class Silence:
    """Ends a request that shows no sign of life: `asyncio.timeout`, moved by what arrives.

    Args:
        limit_s: seconds without an answer.
        sending: bytes of the request, which take time to send.
    """

    def __init__(self, limit_s: float, sending: int = 0) -> None:
        self.limit_s = limit_s
        self._began = time.monotonic()
        self._last = self._began + limit_s * _KEEPALIVE_LIMITS
        self._answer_at: float | None = None
        self._received = 0
        self._timeout = asyncio.timeout(limit_s + sending / _MIN_BYTES_PER_S)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._timeout.__aexit__(*exc_info)  # type: ignore[arg-type]  # passed through

    @property
    def expired(self) -> bool:
        """Whether it ended the request."""
        return self._timeout.expired()

    def received(self, chunk: bytes = b"") -> None:
        """Something came: the head of a response, blank bytes that keep a connection alive, or a part of the answer."""
        now = time.monotonic()
        if self._answer_at is None and not chunk.strip():
            self._move(min(now + self.limit_s, self._last))
            return
        self._answer_at = now if self._answer_at is None else self._answer_at
        self._received += len(chunk)
        self._move(self._answer_at + self.limit_s + self._received / _MIN_BYTES_PER_S)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of the block: it is ours, not the upstream's."""
        began, when = time.monotonic(), self._timeout.when()
        self._timeout.reschedule(None)
        try:
            yield
        finally:
            took = time.monotonic() - began
            self._last += took
            self._answer_at = None if self._answer_at is None else self._answer_at + took
            self._timeout.reschedule(None if when is None else when + took)

    def _move(self, at: float) -> None:
        loop_offset = asyncio.get_running_loop().time() - time.monotonic()
        when = self._timeout.when()
        if not self._timeout.expired() and (when is None or at + loop_offset > when):
            self._timeout.reschedule(at + loop_offset)
