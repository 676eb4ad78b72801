"""Connections to upstreams that are used again only while nothing has arrived on them that was not asked for.

A server or proxy that sends a response nobody asked for (twice, late, or a 408 before it closes) leaves it in an idle connection.
aiohttp's connector hands such a connection out again, and the next request gets that response, and each one after it the
response of the request before: the picture of another session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class CleanConnector(aiohttp.TCPConnector):
    """A connector that closes idle connections on which something has arrived."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        # There is no public place to look at a connection between two requests; a test shows that this one works.
        for protocol, _ in self._conns.get(key, ()):
            if protocol.should_close:
                protocol.close()
        return await super()._get(key, traces)
