"""``GET /v1/export``: finished sessions as JSON lines."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from orchestrator.api.context import Context, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import EXPORT
from orchestrator.api.live import SlotResponse
from services.serving.jsonlines import json_line

router = APIRouter(tags=["sessions"])
_LAST: Final = 10**11
TRAINING: Final = "`allowed`: only what may be used for training, as the tenant and the request of each session said."
_LINES: Final = {
    "description": "One finished session a line.",
    "content": {"application/jsonl": {"schema": {"type": "string"}, "example": EXPORT}},
}
End = Literal["succeeded", "failed", "cancelled"]


@router.get("/v1/export", response_class=Response, responses=documented(429, ok={200: _LINES}))
async def export_sessions(
    ctx: Annotated[Context, Depends(read_access)],
    since: Annotated[float, Query(ge=0, le=_LAST, description="Created at or after; Unix seconds.")] = 0,
    until: Annotated[float | None, Query(ge=0, le=_LAST, description="Created before; Unix seconds.")] = None,
    status: Annotated[End | None, Query(description="Only sessions that ended with this status.")] = None,
    training: Annotated[Literal["allowed"] | None, Query(description=TRAINING)] = None,
) -> Response:
    """Your finished sessions with all their events, oldest first, as JSON lines.

    The response has no length: if the connection breaks, the export is incomplete; request the rest with `since`.
    """
    documents = ctx.history.documents(ctx.tenant, since, until, status)
    return await json_lines(ctx, documents if training is None else _allowed(ctx, documents))


async def json_lines(ctx: Context, documents: AsyncGenerator[dict[str, Any]]) -> Response:
    """A response of one document a line, as they come.

    Raises:
        ApiError: ``quota_exceeded`` when the tenant has as many exports open as it may.
    """
    with ctx.exports.open(ctx.tenant) as slot:
        lines = _lines(documents)
        # Read before the status line is sent, so that an unreachable store is a 503 and not a broken stream.
        first = await anext(lines, None)
        return SlotResponse(_chain(first, lines), slot.pop_all(), media_type="application/jsonl", headers={})


async def _allowed(ctx: Context, documents: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[dict[str, Any]]:
    """Those that may be used for training as they are sent."""
    async with contextlib.aclosing(documents):
        async for document in documents:
            created = document["events"][0]
            # A document that cannot be read has no grant that could be relied on.
            grant = created.get("training") if created.get("type") == "session_created" else None
            if await ctx.training.allows(ctx.tenant, document["id"], grant if isinstance(grant, str) else None):
                yield document


async def _lines(documents: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(documents):
        async for document in documents:
            yield json_line(document) + b"\n"


async def _chain(first: bytes | None, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        if first is not None:
            yield first
        async for line in rest:
            yield line
