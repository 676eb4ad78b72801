"""A decode pool without processes, for tests of what surrounds it."""

from __future__ import annotations

import asyncio
from typing import Any

from services.imaging import decode_worker
from services.imaging.decode_pool import DecodePool


class InProcessPool(DecodePool):
    """Does each job on a thread, as the processes do it."""

    async def _queue(
        self, operation: str, data: bytes, args: dict[str, Any], tenant: str, *, bounded: bool
    ) -> tuple[dict[str, Any], bytes]:
        return await asyncio.to_thread(decode_worker.answer, {"operation": operation, "args": args}, data)
