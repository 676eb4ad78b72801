"""A budget of bytes that requests hold at a time: of bodies while they arrive, or of pictures until they have been read.

    async with budget.open("tenant") as held:
        await held.grow(1_000_000)      waits while others hold too much; 429 ``overloaded`` after `WAIT_S`

    stack = AsyncExitStack()            … or until a response has been sent:
    return HeldResponse(data, stack, media_type="image/png")

Bytes are released at the end of the block. Nobody holds more than a share of the budget, so that one tenant's slow
connections delay no other tenant's. Someone who holds nothing yet is always let in alone, however large the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.errors import ApiError

WAIT_S: Final = 30.0
"""How long a request waits for others; clients wait longer than that for an edit."""
RETRY_S: Final = 5.0
SMALL: Final = 64 * 1024
"""Bodies up to this size are not counted: a connection's buffers hold as much."""
_STEP: Final = 1024 * 1024
"""How many bytes more a body of unknown length reserves at a time."""


class Held:
    """The bytes that one request holds."""

    def __init__(self, budget: ByteBudget, holder: str, wait_s: float | None) -> None:
        self._budget = budget
        self.wait_s = wait_s
        self.holder = holder
        self.size = 0

    async def grow(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            ApiError: ``overloaded`` when others have held too many for the longest wait.
        """
        await self._budget.take(self, size)


class ByteBudget:
    """Bytes that are shared by all requests of this process.

    Args:
        total: of all requests.
        share: of one holder; the total if absent.
        what: is held, for messages: "uploads".
    """

    def __init__(self, total: int, share: int | None = None, *, what: str = "uploads") -> None:
        self._total = total
        self.share = total if share is None else share
        self._what = what
        self._by: Counter[str] = Counter()
        self._waiting: list[tuple[Held, int, asyncio.Future[None]]] = []
        self.used = 0
        self.refused = 0

    @contextlib.asynccontextmanager
    async def open(self, holder: str = "", *, patient: bool = False) -> AsyncIterator[Held]:
        """Nothing held yet; all of it is released at the end.

        Args:
            patient: wait without a limit: what is to be sent has been paid for.
        """
        held = Held(self, holder, None if patient else WAIT_S)
        try:
            yield held
        finally:
            self._add(held, -held.size)
            self._admit()

    async def take(self, held: Held, size: int) -> None:
        """See `Held.grow`."""
        place = (held, size, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        self._admit()
        try:
            async with asyncio.timeout(held.wait_s):
                await place[2]
        except TimeoutError as exc:
            self.refused += 1
            message = f"too many bytes of {self._what} are in flight; try again in a moment"
            raise ApiError("overloaded", message, retry_after=RETRY_S) from exc
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
                self._admit()

    def _admit(self) -> None:
        """Admit those that fit, in the order of arrival; one that waits for the whole budget is not overtaken."""
        for place in list(self._waiting):
            held, size, future = place
            own = self._by[held.holder]
            if own > held.size and own + size > self.share:
                continue
            if self.used > held.size and self.used + size > self._total:
                return
            self._waiting.remove(place)
            self._add(held, size)
            if not future.done():
                future.set_result(None)

    def _add(self, held: Held, size: int) -> None:
        held.size += size
        self.used += size
        self._by[held.holder] += size
        if not self._by[held.holder]:
            del self._by[held.holder]


@contextlib.asynccontextmanager
async def receiving(
    budget: ByteBudget, request: Request, holder: str = "", *, factor: int = 1, held: Held | None = None
) -> AsyncIterator[Request]:
    """The request, whose body is held until the end of the block: its Content-Length at once, or as it arrives if it has none, or
    is more than one holder's share: a client that announces much and sends nothing delays nobody.

    Args:
        factor: times that a body is in memory while it is read; a JSON body is so as bytes and as text.
        held: what the request holds besides, so that it does not wait for its own body; the holder's if there is one.

    Raises:
        ApiError: ``overloaded``, also while the body is read.
    """
    async with contextlib.nullcontext(held) if held else budget.open(holder) as holding:
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            size = int(length) * factor
            if size <= budget.share:
                if int(length) > SMALL:
                    await holding.grow(size)
                yield request
                return
        arrived, reserved = 0, SMALL

        async def receive() -> Message:
            nonlocal arrived, reserved
            message = await request.receive()
            arrived += len(message.get("body", b""))
            while arrived > reserved:
                await holding.grow(_STEP * factor)
                reserved += _STEP
            return message

        yield Request(request.scope, receive)


class HeldResponse(Response):
    """A response whose content counts as held until it has been sent, or the client has left."""

    def __init__(
        self, content: bytes, held: contextlib.AsyncExitStack, status: int = 200, *, media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and release."""
        async with self._held:
            await super().__call__(scope, receive, send)
