"""Where tenants' names lead. They are looked up on threads of their own, since whoever owns a name decides how long that takes.

The event loop's own threads decode every picture; and an executor's keep a process from ending until all have an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter


class LookupTimeoutError(Exception):
    """A look-up took too long, or those before it did."""


class Lookups:
    """Looks names up, few at a time. A look-up has its place until its thread has an answer, whether or not anybody waits.

    Args:
        at_a_time: look-ups in all.
        of_one: of one tenant.
        of_name: of one name of one tenant.
        within_s: seconds that one may take, with the wait for its place.
    """

    def __init__(self, *, at_a_time: int = 64, of_one: int = 8, of_name: int = 2, within_s: float = 5.0) -> None:
        self._most = (at_a_time, of_one, of_name)
        self._within_s = within_s
        self._busy: Counter[tuple[str, ...]] = Counter()
        self._ended = asyncio.Event()

    async def find(self, host: str, port: int, whose: str) -> list[str]:
        """The addresses that a tenant's name leads to.

        Raises:
            LookupTimeoutError: when it takes too long.
            OSError, UnicodeError: as `socket.getaddrinfo`.
        """
        places = ((), (whose,), (whose, host))
        try:
            async with asyncio.timeout(self._within_s):
                while not all(self._busy[place] < most for place, most in zip(places, self._most, strict=True)):
                    self._ended.clear()
                    await self._ended.wait()
                return await self._begin(host, port, places)
        except TimeoutError as exc:
            raise LookupTimeoutError(f"the name was not looked up within {self._within_s:g} s") from exc

    def _begin(self, host: str, port: int, places: tuple[tuple[str, ...], ...]) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def tell(found: list[str], error: Exception | None) -> None:
            self._busy.subtract(places)
            self._busy += Counter()  # forgets what is zero
            self._ended.set()
            if answer.done():
                return  # nobody waits any longer
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def work() -> None:
            found, error = list[str](), None
            try:
                found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            except Exception as exc:  # noqa: BLE001 - whatever it is, whoever waits is told
                error = exc
            # The loop may be closed meanwhile: the process ends.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, found, error)

        threading.Thread(target=work, name="look-up", daemon=True).start()
        self._busy.update(places)
        return answer
