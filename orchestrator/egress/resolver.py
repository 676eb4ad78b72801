"""Resolves host names that tenants choose, on threads of its own: the owner of a name decides how long resolving it takes.

The event loop's executor decodes images and must not be blocked; and a process waits for an executor's threads when it exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter


class ResolutionTimeoutError(Exception):
    """Resolving a name, or waiting for capacity to do so, took too long."""


class NameResolver:
    """Resolves names, a few concurrently. A resolution counts until its thread ends, even if its caller gave up before.

    Args:
        max_concurrent: resolutions in all.
        max_per_tenant: of one tenant.
        max_per_name: of one name of one tenant.
        timeout_s: seconds for one resolution, with the wait for capacity.
    """

    def __init__(
        self, *, max_concurrent: int = 64, max_per_tenant: int = 8, max_per_name: int = 2, timeout_s: float = 5.0
    ) -> None:
        self._limits = (max_concurrent, max_per_tenant, max_per_name)
        self._timeout_s = timeout_s
        self._in_flight: Counter[tuple[str, ...]] = Counter()
        self._released = asyncio.Event()

    async def resolve(self, host: str, port: int, tenant: str) -> list[str]:
        """The addresses of a name.

        Raises:
            ResolutionTimeoutError: when it takes too long.
            OSError, UnicodeError: as `socket.getaddrinfo`.
        """
        groups = ((), (tenant,), (tenant, host))
        try:
            async with asyncio.timeout(self._timeout_s):
                while not all(self._in_flight[group] < limit for group, limit in zip(groups, self._limits, strict=True)):
                    self._released.clear()
                    await self._released.wait()
                return await self._start(host, port, groups)
        except TimeoutError as exc:
            raise ResolutionTimeoutError(f"the name was not looked up within {self._timeout_s:g} s") from exc

    def _start(self, host: str, port: int, groups: tuple[tuple[str, ...], ...]) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[list[str]] = loop.create_future()

        def finish(addresses: list[str], error: Exception | None) -> None:
            self._in_flight.subtract(groups)
            self._in_flight += Counter()  # drops the keys that are zero
            self._released.set()
            if result.done():
                return  # the caller gave up
            if error is None:
                result.set_result(addresses)
            else:
                result.set_exception(error)

        def work() -> None:
            addresses, error = list[str](), None
            try:
                addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            except Exception as exc:  # noqa: BLE001 - passed on to the caller
                error = exc
            # The loop is closed when the process is exiting.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, addresses, error)

        threading.Thread(target=work, name="resolver", daemon=True).start()
        self._in_flight.update(groups)
        return result
