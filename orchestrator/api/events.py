"""``GET /v1/sessions/{id}/events``: the session's events as server-sent events, resumable after any of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from orchestrator.api.context import Context, shared_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import EVENTS
from orchestrator.api.live import AccessEndedError, EventStreamResponse, HistoryLostError, ShuttingDownError, follow, load, until
from orchestrator.api.sessions import SessionId
from orchestrator.loop.events import dump
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import Recorded
from services.errors import ApiError
from services.protocol.images_api import sse_schema
from services.serving.jsonlines import sse_message

router = APIRouter(tags=["sessions"])
_PRIVATE: Final = frozenset({"tenant", "user", "metadata", "editor_options", "training", "reply", "prompt"})
"""Of events: what a session's view does not show to a guest, and what is kept for training."""
_LAST: Final = 10**15
_DIGITS: Final = 15
_STREAM: Final = {
    "description": "Events until the session is finished.",
    "content": {"text/event-stream": {"schema": sse_schema(), "example": EVENTS}},
}


@router.get(
    "/v1/sessions/{session_id}/events",
    response_class=Response,
    responses=documented(429, ok={200: _STREAM, 204: {"description": "The session is finished; no events follow."}}),
)
async def stream_events(
    session_id: SessionId,
    ctx: Annotated[Context, Depends(shared_access)],
    after: Annotated[int, Query(ge=0, le=_LAST, description="Sequence number after which to start.")] = 0,
    last_event_id: Annotated[str | None, Header(description="Id of the last event received; browsers send it.")] = None,
) -> Response:
    """Every event exactly once, in order: `id` is its sequence number, `event` its type, `data` its JSON.

    The stream ends after `finished`. Comments keep the connection alive in between. The event `reset` says that the server has
    lost events that were sent: forget them, and connect again without `Last-Event-ID`; a browser does so on its own.
    """
    start = _start(after, last_event_id)
    with ctx.streams.open(ctx.tenant) as slot:
        if ctx.share:
            slot.enter_context(ctx.watchers.open(ctx.share.id))
        session, last = await load(ctx.history, session_id, ctx.tenant)
        if session.finished and start >= last:
            # Also beyond it: who has seen more than there is cannot be told apart from who asks for nothing.
            # 204 tells a browser not to reconnect.
            return Response(status_code=204)
        return EventStreamResponse(_frames(ctx, session_id, start), slot.pop_all())


async def _frames(ctx: Context, session_id: str, after: int) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    try:
        async with contextlib.aclosing(until(ctx.stream_ends, follow(ctx.history, session_id, after))) as events:
            async for recorded in events:
                yield b": keep-alive\n\n" if recorded is None else _frame(recorded, guest=ctx.share is not None)
    except HistoryLostError:
        yield sse_message({"seq": 0, "type": "reset"}, event="reset", seq=0)
    except (PortError, ApiError, CorruptLogError, ShuttingDownError, AccessEndedError):
        # The store is unreachable, this replica shuts down, or the key is no longer valid: close, so that the client
        # reconnects with its last id, and learns why if it may not. So also when an event cannot be read.
        return


def _frame(recorded: Recorded, *, guest: bool) -> bytes:
    event = recorded.event
    data = {"seq": recorded.seq, **orjson.loads(dump(event))}
    if guest:
        data = {name: value for name, value in data.items() if name not in _PRIVATE}
    return sse_message(data, event=event.type, seq=recorded.seq)


def _start(after: int, last_event_id: str | None) -> int:
    if last_event_id is None or last_event_id == "":
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > _DIGITS:
        raise ApiError("invalid_value", "Last-Event-ID: send the id of the last event you saw", param="Last-Event-ID")
    return int(last_event_id)
