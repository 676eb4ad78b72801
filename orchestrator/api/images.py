"""``POST /v1/images/edits``: OpenAI's endpoint. One call creates a session, waits for it, and returns its best image."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orchestrator.api.access import access_ended
from orchestrator.api.compatibility import ignored_header, quality_of, usage_of
from orchestrator.api.context import Context, create_access
from orchestrator.api.edit_bodies import edit_body, memory_factor
from orchestrator.api.errors import documented, from_port, of_finished
from orchestrator.api.examples import IMAGES
from orchestrator.api.fields import ImagesEditFields
from orchestrator.api.intake import REPLAYED, idempotency_key
from orchestrator.api.live import (
    AccessEndedError,
    ClientDisconnectedError,
    EventStreamResponse,
    HistoryLostError,
    ShuttingDownError,
    SlotResponse,
    follow,
    until,
    until_finished,
    waited_out,
    while_connected,
)
from orchestrator.api.marks import UNMARKED, Mark
from orchestrator.api.pictures import PIECE, PiecesResponse, StoredPicture, size_of, stored_pieces
from orchestrator.api.transcodes import Encoding
from orchestrator.api.view import answer_path, scores_of
from orchestrator.api.webhooks import endpoint_of_request
from orchestrator.loop.events import CandidateRef, Edited, Finished, ImageRef
from orchestrator.loop.session import Candidate, Session, fold
from orchestrator.ports.errors import PortError, StorageUnavailableError
from services.errors import ApiError
from services.imaging.alpha import HEAD_BYTES, has_alpha
from services.imaging.codec import to_base64
from services.protocol.images_api import ImagesResponse, ImagesUsage, sse_schema
from services.serving.byte_budget import receiving
from services.serving.jsonlines import sse_message
from services.serving.middleware import ReplyAbortedError, error_response

router = APIRouter(tags=["images"])
_STREAM = {"text/event-stream": {"schema": sse_schema()}}
_OK = {"description": "The best image; server-sent events with stream=true.", "content": _STREAM}
_EVENT_FACTOR = 2
"""An event holds its picture as bytes, as base64 and as JSON; the first are gone when it is sent."""
_DONT_RETRY = {"x-should-retry": "false"}
_UNBUFFERED = {"x-accel-buffering": "no"}
"""nginx would hold the white space back."""
_FAILED_S = 10.0
"""How long a repeat gets the error of a session that failed after its reply had begun: clients repeat within 8 s."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A call that waits for its session.

    Attributes:
        fingerprint: of its request, if it has no idempotency key: nobody else can get the result.
        ignored: the fields that are not honoured.
        headers: of every answer.
    """

    ctx: Context
    session_id: str
    fields: ImagesEditFields
    fingerprint: str | None
    ignored: tuple[str, ...]
    headers: dict[str, str]

    def counted(self) -> contextlib.AbstractContextManager[None]:
        """Count it, and keep its lease, while it waits."""
        return self.ctx.callers.waiting(self.session_id, leased=self.fingerprint is not None)

    async def left(self) -> None:
        """Its caller has left, and may come back for a minute."""
        if self.fingerprint is not None:
            await self.ctx.let_rejoin(self.session_id, self.fingerprint)

    async def ended(self) -> None:
        """Its caller may not wait any longer."""
        if self.fingerprint is not None:
            # Without the store its lease ends, and the session with it.
            with contextlib.suppress(StorageUnavailableError):
                await self.ctx.cancel(self.session_id, by="disconnect")

    async def failed(self) -> None:
        """Its session, or the reply, failed after the reply's head was sent: the client's own repeat gets the status."""
        if self.fingerprint is not None:
            await self.ctx.hand_over(self.session_id, self.fingerprint, for_s=_FAILED_S)

    async def shutting_down(self) -> ApiError:
        """The error for it when this replica closes; the repeat of the request joins the session."""
        if self.fingerprint is not None:
            await self.ctx.hand_over(self.session_id, self.fingerprint)
        message = f"this replica is shutting down; repeat the request to get the result of session {self.session_id}"
        return ApiError("not_ready", message, retry_after=1)


@router.post(
    "/v1/images/edits",
    response_model=ImagesResponse,
    responses=documented(408, 409, 415, 422, 429, 502, 504, 507, ok={200: _OK}, example=IMAGES, rated=True),
    openapi_extra={"requestBody": edit_body(ImagesEditFields)},
)
async def edit_image(request: Request, ctx: Annotated[Context, Depends(create_access)]) -> Response:
    """Edit an image until the thinker finds that it follows the instruction, and return the best candidate of all turns.

    The contract is OpenAI's, so its clients work; flat extension fields control the loop. A reply that takes long begins with
    white space, which keeps clients and proxies waiting. If the connection breaks, a session with an `Idempotency-Key`
    continues (repeat the request to get its result); one without waits a minute for the repeat, and is then cancelled.
    """
    key = idempotency_key(request)
    with contextlib.ExitStack() as slot:
        async with (
            ctx.uploads.open(ctx.tenant) as held,
            receiving(ctx.uploads, request, factor=memory_factor(request), held=held) as body,
        ):
            given = await ctx.intake.receive(body, ImagesEditFields, ctx.tenant, held.grow)
            fields, ignored = given.fields, given.ignored
            delivered = fields.delivered_as(given.pictures.source)
            if fields.response_format == "url":
                ctx.links.check_base(request.headers.get("host"))
            if fields.stream:
                slot.enter_context(ctx.streams.open(ctx.tenant))
            webhook = endpoint_of_request(ctx, fields)
            with ctx.counting_refusals():
                tenant = await ctx.tenant_bounds()
                created = await ctx.intake.create(fields, given.pictures, tenant, key=key, waits=True, webhook=webhook)
            del given  # do not hold its pictures in memory while the caller waits
        session_id = created.session_id
        headers = {**_DONT_RETRY, "x-session-id": session_id, **ignored_header(ignored), **({} if created.fresh else REPLAYED)}
        call = _Waiting(ctx, session_id, delivered, None if key else created.fingerprint, ignored, headers)
        if fields.stream:
            slot.enter_context(call.counted())
            return EventStreamResponse(_stream(call), slot.pop_all(), headers)
    try:
        # One call waits for each session, its first one or the repeat of one that left; those that join it by its key are counted
        # as streams are.
        with contextlib.ExitStack() if created.fresh or key is None else ctx.streams.open(ctx.tenant) as slot:
            slot.enter_context(call.counted())
            return await _whole(request, call, slot)
    except (ApiError, PortError) as exc:
        # The session exists, so the client must not retry on its own: that would create another.
        return error_response(from_port(exc) if isinstance(exc, PortError) else exc, headers)


async def _whole(request: Request, call: _Waiting, slot: contextlib.ExitStack) -> Response:
    """The reply, with the status of the session, or begun with white space if the session takes long."""
    ctx, session_id, headers = call.ctx, call.session_id, call.headers
    finishing = asyncio.create_task(_finished(ctx, session_id))
    handed_on = False
    try:
        done = await while_connected(request, ctx.ends, _within(ctx.waits.reply_starts_s or None, finishing))
        if not done:
            handed_on = True
            slot.callback(finishing.cancel)
            pieces = _sent(call, _late(request, call, finishing))
            return SlotResponse(pieces, slot.pop_all(), media_type="application/json", headers={**headers, **_UNBUFFERED})
    except ClientDisconnectedError:
        await call.left()
        return Response(status_code=499)
    except ShuttingDownError:
        return error_response(await call.shutting_down(), {**headers, "x-should-retry": "true"})
    except AccessEndedError as exc:
        await call.ended()
        raise access_ended() from exc
    finally:
        if not handed_on:
            finishing.cancel()
            await asyncio.wait({finishing})
    session = finishing.result()
    if error := _error_of(session):
        return Response(orjson.dumps(error.body()), error.status, headers, media_type="application/json")
    # The first piece is made before the head is sent, so that a failure still has its status.
    pieces = _pieces(request, call, session)
    started = [await anext(pieces)]
    return PiecesResponse(_sent(call, _joined(call, started, pieces)), headers=headers, media_type="application/json")


async def _finished(ctx: Context, session_id: str) -> Session:
    session, _ = await until_finished(ctx.history, session_id)
    await ctx.confirm()
    return session


async def _within(seconds: float | None, task: asyncio.Task[Any]) -> bool:
    """Whether the task is done within so many seconds; it goes on if it is not."""
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return bool(done)


def _error_of(session: Session) -> ApiError | None:
    """Why a session has no result."""
    if session.finished is None:
        return ApiError("internal_error", "the session did not finish")
    return of_finished(session.finished) if session.finished.best is None else None


async def _late(request: Request, call: _Waiting, finishing: asyncio.Task[Session]) -> AsyncGenerator[bytes]:
    """White space until the session is finished, then the reply.

    The status was sent. An error cuts the reply off, within its JSON, so that every client raises: one that is complete would be
    taken for a result by those that do not look for an error under the status 200 (decision 121).
    """
    ctx = call.ctx
    try:
        async with contextlib.aclosing(until(ctx.ends, _spaces(ctx.waits.space_s, finishing))) as spaces:
            async for space in spaces:
                yield space
        session = finishing.result()
        error = _error_of(session)
        if error is None:
            async with contextlib.aclosing(_pieces(request, call, session)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        await call.failed()
    except ShuttingDownError:
        error = await call.shutting_down()
    except AccessEndedError:
        await call.ended()
        error = access_ended()
    except (PortError, ApiError) as exc:
        await call.failed()
        error = from_port(exc) if isinstance(exc, PortError) else exc
    yield orjson.dumps(error.body())[:-1]
    raise ReplyAbortedError(error.message)


async def _spaces(every_s: float, finishing: asyncio.Task[Any]) -> AsyncGenerator[bytes]:
    while True:
        yield b" "
        if await _within(every_s, finishing):
            return


async def _sent(call: _Waiting, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The pieces of a reply; a caller whose connection breaks before the last can come back for them."""
    done = False
    try:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece
        done = True
    except ReplyAbortedError:
        done = True
        raise
    finally:
        if not done:
            # Shielded: this task is cancelled while the generator is closed.
            await asyncio.shield(asyncio.ensure_future(call.left()))


async def _pieces(request: Request, call: _Waiting, session: Session) -> AsyncGenerator[bytes]:
    """The reply's JSON, in pieces: a picture is not held as a whole for a reader that may be slow."""
    ctx, session_id, fields, finished = call.ctx, call.session_id, call.fields, session.finished
    assert finished is not None
    assert finished.best is not None
    best = session.candidate(finished.best)
    answer = best.answer if best else None
    scores = scores_of(best)
    body = {
        "created": int(session.created.at),
        "output_format": fields.output_format,
        "size": f"{answer.width}x{answer.height}" if answer else None,
        "quality": quality_of(session.created),
        "background": await _background(call, answer) if answer else None,
        "usage": usage_of(session).model_dump(),
        "session_id": session_id,
        "scores": scores.model_dump() if scores else None,
        "turns": finished.totals.turns,
        "edits": finished.totals.edits,
        "finish_reason": finished.reason,
        "totals": finished.totals.model_dump(),
        **({"unchanged": True} if best and best.unchanged else {}),
        **({"ignored": call.ignored} if call.ignored else {}),
        **({"safety_identifier": session.created.user} if session.created.user else {}),
    }
    before = b'{"data":['
    async with contextlib.aclosing(_parts(request, ctx, session_id, session, finished.results, fields)) as parts:
        async for part in parts:
            yield before + part
            before = b""
    yield b"]," + orjson.dumps(body)[1:]


async def _joined(call: _Waiting, started: list[bytes], pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(pieces):
        yield started.pop()
        try:
            async for piece in pieces:
                yield piece
        except (PortError, ApiError) as exc:
            await call.failed()
            raise ReplyAbortedError(str(exc)) from exc


async def _parts(
    request: Request, ctx: Context, session_id: str, session: Session, refs: Sequence[CandidateRef], fields: ImagesEditFields
) -> AsyncGenerator[bytes]:
    """The elements of `data`, in parts."""
    for number, ref in enumerate(refs):
        before = b"," if number else b""
        image, facts = await _facts_of(request, ctx, session_id, session, ref, fields)
        if image is None:
            yield before + orjson.dumps(facts)
            continue
        before += b'{"b64_json":"'
        async with contextlib.aclosing(
            _encoded(ctx, session_id, image, fields, _mark_of(ctx, session_id, session, ref))
        ) as pieces:
            async for piece in pieces:
                yield before + to_base64(piece).encode()
                before = b""
        yield b'",' + orjson.dumps(facts)[1:]


async def _facts_of(
    request: Request, ctx: Context, session_id: str, session: Session, ref: CandidateRef, fields: ImagesEditFields
) -> tuple[ImageRef | None, dict[str, Any]]:
    """An image that is sent inline, or None, and the other fields of its element of `data`."""
    candidate = session.candidate(ref)
    if candidate is None or candidate.answer is None:
        raise ApiError("internal_error", "the finished session names a candidate without an image")
    scores = scores_of(candidate)
    out: dict[str, Any] = {
        "revised_prompt": session.turns[ref.turn - 1].instruction,
        "turn": ref.turn,
        "candidate": ref.candidate,
        "scores": scores.model_dump() if scores else None,
        **_alpha(candidate, fields),
    }
    if fields.response_format == "url":
        query = [("format", str(fields.output_format))]
        # Without effect for png, whose link would be refused with it.
        if fields.output_compression is not None and fields.output_format != "png":
            query.append(("compression", str(fields.output_compression)))
        if fields.background == "opaque" and fields.output_format != "jpeg":
            query.append(("background", "opaque"))
        path = answer_path(session_id, candidate)
        return None, {"url": await ctx.links.link(str(request.base_url), path, query, ctx.clock.now()), **out}
    return candidate.answer, out


async def _encoded(ctx: Context, session_id: str, image: ImageRef, fields: ImagesEditFields, mark: Mark) -> AsyncGenerator[bytes]:
    """The image as the caller wants it, in pieces that can be encoded one by one."""
    if _as_stored(image, fields) and mark.claim is None:
        picture = await StoredPicture.open(ctx.blobs, session_id, image, mark, read=waited_out)
        async for piece in stored_pieces(picture, read=waited_out):
            yield piece
        return
    async with ctx.replies.open(ctx.tenant, patient=True) as held:
        await held.grow(size_of(image))
        data = await _converted(ctx, session_id, image, fields, mark)
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]


def _as_stored(image: ImageRef, fields: ImagesEditFields) -> bool:
    same = image.media_type == f"image/{fields.output_format}" and fields.output_compression is None
    return same and fields.background != "opaque"


async def _background(call: _Waiting, image: ImageRef) -> str | None:
    """Whether the picture that is sent can be transparent: ``transparent`` or ``opaque``."""
    if call.fields.output_format == "jpeg" or call.fields.background == "opaque":
        return "opaque"
    head = await call.ctx.blobs.read(call.session_id, image.sha256, 0, min(HEAD_BYTES, image.bytes))
    return "transparent" if has_alpha(head) else "opaque"


async def _converted(ctx: Context, session_id: str, image: ImageRef, fields: ImagesEditFields, mark: Mark) -> bytes:
    async def load() -> bytes:
        return await waited_out(lambda: ctx.blobs.get(session_id, image.sha256))

    if _as_stored(image, fields):
        made = await load()
    else:
        made = await _transcoded(ctx, image, load, fields)
    name = (image.sha256, str(fields.output_format), str(fields.output_compression), str(fields.background == "opaque"))
    return await ctx.marks.finished(session_id, mark, made, name, ctx.blobs, tenant=ctx.tenant)


async def _transcoded(ctx: Context, image: ImageRef, load: Callable[[], Awaitable[bytes]], fields: ImagesEditFields) -> bytes:
    encoding = Encoding(fields.output_format or "png", fields.output_compression, fields.background == "opaque")
    return await ctx.transcodes.get(image.sha256, load, encoding, tenant=ctx.tenant, param="output_format")


def _mark_of(ctx: Context, session_id: str, session: Session, ref: CandidateRef) -> Mark:
    candidate = session.candidate(ref)
    return ctx.marks.of_candidate(session_id, session, candidate) if candidate else UNMARKED


async def _stream(call: _Waiting) -> AsyncIterator[bytes]:
    """Each turn's candidates as partial images, then one completed event for every result."""
    ctx = call.ctx
    done = False
    try:
        async for item in until(ctx.ends, _events(call)):
            yield item
        done = True
    except (PortError, ApiError) as exc:
        error = from_port(exc) if isinstance(exc, PortError) else exc
        yield sse_message(error.body(), event="error")
    except AccessEndedError:
        done = True
        await call.ended()
        yield sse_message(access_ended().body(), event="error")
    except ShuttingDownError:
        done = True
        yield sse_message((await call.shutting_down()).body(), event="error")
    finally:
        if not done:
            # Shielded: this task is cancelled while the generator is closed.
            await asyncio.shield(asyncio.ensure_future(call.left()))


async def _events(call: _Waiting) -> AsyncGenerator[bytes]:
    sent: set[str] = set()
    while True:
        try:
            async with contextlib.aclosing(_events_once(call, sent)) as items:
                async for item in items:
                    yield item
        except HistoryLostError:
            continue
        return


async def _events_once(call: _Waiting, sent: set[str]) -> AsyncGenerator[bytes]:
    """The events, but for partial images that were sent: `sent` has their turns and candidates."""
    ctx, session_id, fields = call.ctx, call.session_id, call.fields
    log = []
    async with contextlib.aclosing(follow(ctx.history, session_id, waits=True)) as live:
        async for recorded in live:
            if recorded is None:
                yield b": keep-alive\n\n"
                continue
            log.append(recorded.event)
            event = recorded.event
            wanted = fields.partial_images is None or len(sent) < fields.partial_images
            if isinstance(event, Edited) and wanted and (picture := f"{event.turn}/{event.candidate}") not in sent:
                # An event is held as a whole, so that its end is never cut off by another one.
                async with ctx.replies.open(ctx.tenant, patient=True) as held:
                    await held.grow(_EVENT_FACTOR * size_of(event.image))
                    yield await _partial(call, fold(log), event, len(sent))
                sent.add(picture)
            if isinstance(event, Finished):
                async with contextlib.aclosing(_completed(call, fold(log), event)) as items:
                    async for item in items:
                        yield item


async def _partial(call: _Waiting, session: Session, event: Edited, index: int) -> bytes:
    mark = _mark_of(call.ctx, call.session_id, session, CandidateRef(turn=event.turn, candidate=event.candidate))
    data = await _converted(call.ctx, call.session_id, event.image, call.fields, mark)
    body = {
        "type": "image_edit.partial_image",
        "b64_json": to_base64(data),
        "partial_image_index": index,
        **_of_event(call, session, event.at, event.image, data),
        "turn": event.turn,
        "candidate": event.candidate,
        "instruction": session.turns[event.turn - 1].instruction,
    }
    return sse_message(body, event="image_edit.partial_image")


async def _completed(call: _Waiting, session: Session, finished: Finished) -> AsyncGenerator[bytes]:
    if finished.best is None:
        error = of_finished(finished)
        yield sse_message(error.body(), event="error")
        return
    found = [(ref, candidate.answer) for ref in finished.results if (candidate := session.candidate(ref)) and candidate.answer]
    for number, (ref, image) in enumerate(found, 1):
        async with call.ctx.replies.open(call.ctx.tenant, patient=True) as held:
            await held.grow(_EVENT_FACTOR * size_of(image))
            # Clients add up what events report, so one of them has all of it.
            usage = usage_of(session) if number == len(found) else ImagesUsage()
            yield await _completed_event(call, session, finished, ref, image, usage)


async def _completed_event(
    call: _Waiting, session: Session, finished: Finished, ref: CandidateRef, image: ImageRef, usage: ImagesUsage
) -> bytes:
    candidate = session.candidate(ref)
    scores = scores_of(candidate)
    mark = _mark_of(call.ctx, call.session_id, session, ref)
    data = await _converted(call.ctx, call.session_id, image, call.fields, mark)
    body = {
        "type": "image_edit.completed",
        "b64_json": to_base64(data),
        **_of_event(call, session, finished.at, image, data),
        "usage": usage.model_dump(),
        "revised_prompt": session.turns[ref.turn - 1].instruction,
        "turn": ref.turn,
        "candidate": ref.candidate,
        "scores": scores.model_dump() if scores else None,
        **_alpha(candidate, call.fields),
        "turns": finished.totals.turns,
        "edits": finished.totals.edits,
        "finish_reason": finished.reason,
        **({"unchanged": True} if candidate and candidate.unchanged else {}),
        **({"ignored": call.ignored} if call.ignored else {}),
        **({"safety_identifier": session.created.user} if session.created.user else {}),
    }
    return sse_message(body, event="image_edit.completed")


def _alpha(candidate: Candidate | None, fields: ImagesEditFields) -> dict[str, str]:
    """What became of the source's transparency, if it has any; JPEG has none."""
    if candidate is None or candidate.alpha is None:
        return {}
    return {"alpha": "dropped" if fields.output_format == "jpeg" or fields.background == "opaque" else candidate.alpha}


def _of_event(call: _Waiting, session: Session, at: float, image: ImageRef, data: bytes) -> dict[str, Any]:
    """The fields that OpenAI's stream events have in common, and the session."""
    return {
        "created_at": int(at),
        "size": f"{image.width}x{image.height}",
        "quality": quality_of(session.created),
        "background": "transparent" if has_alpha(data[:HEAD_BYTES]) else "opaque",
        "output_format": call.fields.output_format,
        "session_id": call.session_id,
    }
