"""``/v1/sessions``: sessions as a resource that can be followed, steered, cancelled and listed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal
from urllib.request import parse_http_list

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from orchestrator.api.access import access_ended
from orchestrator.api.bodies import described, read_as
from orchestrator.api.compatibility import ignored_header
from orchestrator.api.context import NOT_SHARED, Context, create_access, edit_access, image_access, read_access, shared_access
from orchestrator.api.cursors import read_cursor, write_cursor
from orchestrator.api.edit_bodies import edit_body, memory_factor
from orchestrator.api.errors import Responses, documented, from_port
from orchestrator.api.examples import SESSION, SESSIONS
from orchestrator.api.fields import SessionFields, check_bytes
from orchestrator.api.intake import REPLAYED, idempotency_key
from orchestrator.api.live import (
    AccessEndedError,
    ClientDisconnectedError,
    ShuttingDownError,
    StreamLimitError,
    UnreadableSessionError,
    load,
    unreadable,
    until_finished,
    while_connected,
)
from orchestrator.api.marks import UNMARKED, Mark
from orchestrator.api.pictures import Representation, size_of, stored_response
from orchestrator.api.queries import METADATA_QUERY, wanted_metadata
from orchestrator.api.transcodes import Encoding
from orchestrator.api.view import SessionList, SessionView, in_list, poll_after_s, show, show_unreadable, summary, without_private
from orchestrator.api.webhooks import endpoint_of_request
from orchestrator.loop.choosing import best
from orchestrator.loop.events import CandidateRef, Event, FeedbackAction, FeedbackGiven, ImageRef
from orchestrator.loop.session import Candidate, CorruptLogError, Session, Status, fold
from orchestrator.loop.spending import images_are_full, log_is_full, turns_are_used_up
from orchestrator.ports.errors import PortError, StorageUnavailableError
from orchestrator.ports.stores import Created, Recorded
from services.errors import ApiError
from services.imaging.codec import OutputFormat, digest
from services.protocol.images_api import MAX_IMAGES, Prompt
from services.serving.byte_budget import HeldResponse, receiving
from services.serving.middleware import error_response

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

ReadAccess = Annotated[Context, Depends(read_access)]
SharedAccess = Annotated[Context, Depends(shared_access)]
EditAccess = Annotated[Context, Depends(edit_access)]
ImageAccess = Annotated[Context, Depends(image_access)]
SessionId = Annotated[str, Path(pattern=r"^[^/]{1,200}$", examples=["ses_5b1f0c6be2d14b5f9f0a8f6a3f4e2d1c"])]


@dataclass(frozen=True, slots=True)
class WantedEncoding:
    """The encoding that a request for an image asks for, and the request, whose client may leave."""

    request: Request
    format: OutputFormat | None
    compression: int | None
    background: Literal["opaque"] | None
    max_side: int | None

    @property
    def param(self) -> str:
        """The parameter that asks for another encoding."""
        return "max_side" if self.max_side and self.format is None else "format"


def wanted_encoding(
    request: Request,
    format: Annotated[OutputFormat | None, Query(description="Output encoding; as stored if absent.")] = None,  # noqa: A002
    compression: Annotated[int | None, Query(ge=0, le=100, description="Quality of jpeg and webp.")] = None,
    background: Annotated[Literal["opaque"] | None, Query(description="opaque: a transparent image is laid on white.")] = None,
    max_side: Annotated[
        int | None, Query(ge=64, le=2048, description="A larger image is reduced to so many pixels on its longer side.")
    ] = None,
) -> WantedEncoding:
    """The dependency of routes that serve images."""
    return WantedEncoding(request, format, compression, background, max_side)


Wanted = Annotated[WantedEncoding, Depends(wanted_encoding)]

_IMAGE: Final[Responses] = {
    200: {
        "description": "The image.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg", "image/webp")
        },
    },
    206: {"description": "The part that `Range` asks for."},
    304: {"description": "`If-None-Match` names what would be sent."},
}
_PARTIAL: Final = 206
_SECONDS: Final = re.compile(r"[0-9]{1,18}")
_FINISHED: Final = {"model": SessionView, "description": "Finished within `Prefer: wait`."}
_CREATED: Final = {"description": "Created, and not finished yet."}
_LONGEST_WAIT_S: Final = 600
_PAGES_SCANNED: Final = 10
_READ_AT_ONCE: Final = 16
"""Logs in memory at a time for one list."""
_REMOVAL_S: Final = 5.0


class Feedback(BaseModel):
    """A reviewer's decision on a session."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"action": "go_on"}]})

    action: FeedbackAction = Field(description="accept the best, pick a candidate, instruct again, or go_on.")
    turn: int | None = Field(None, ge=1, description="With pick: the turn.")
    candidate: int | None = Field(None, ge=1, description="With pick: the candidate; the turn's first if absent.")
    instruction: Prompt | None = Field(None, description="With instruct: the instruction of the next turn.")


@router.post(
    "",
    status_code=202,
    response_model=SessionView,
    responses=documented(
        408, 415, 422, 429, 502, 504, ok={200: _FINISHED, 202: _CREATED}, example=SESSION, polled=True, rated=True
    ),
    openapi_extra={"requestBody": edit_body(SessionFields)},
)
async def create_session(
    request: Request,
    ctx: Annotated[Context, Depends(create_access)],
    _prefer: Annotated[
        str | None, Header(alias="prefer", description="`wait=n`: wait up to n seconds for the result.", examples=["wait=30"])
    ] = None,
) -> Response:
    """Create a session, from a form or from JSON, as for the images endpoint."""
    wait_s = preferred_wait_s(request.headers.getlist("prefer"))
    key = idempotency_key(request)
    async with (
        ctx.uploads.open(ctx.tenant) as held,
        receiving(ctx.uploads, request, factor=memory_factor(request), held=held) as body,
    ):
        given = await ctx.intake.receive(body, SessionFields, ctx.tenant, held.grow)
        webhook = endpoint_of_request(ctx, given.fields)
        with ctx.counting_refusals():
            bounds = await ctx.tenant_bounds()
            created = await ctx.intake.create(given.fields, given.pictures, bounds, key=key, webhook=webhook)
        ignored = given.ignored
        del given  # do not hold its pictures in memory while the caller waits
    headers = {"location": f"/v1/sessions/{created.session_id}", "x-should-retry": "false", **ignored_header(ignored)}
    headers |= {} if created.fresh else REPLAYED
    try:
        return await _created(request, ctx, created, wait_s, headers, ignored)
    except (ApiError, PortError) as exc:
        # The session exists: who repeats the request without an idempotency key would create another.
        return error_response(from_port(exc) if isinstance(exc, PortError) else exc, headers)


async def _created(
    request: Request, ctx: Context, created: Created, wait_s: float, headers: Mapping[str, str], ignored: tuple[str, ...]
) -> Response:
    """A new session as it is now, or within so many seconds as it is when it is finished."""
    session_id = created.session_id
    if wait_s:
        try:
            with contextlib.ExitStack() if created.fresh else ctx.streams.open(ctx.tenant):
                async with asyncio.timeout(wait_s):
                    session, seq = await while_connected(request, ctx.stream_ends, until_finished(ctx.history, session_id))
        except (TimeoutError, ShuttingDownError, StreamLimitError):
            pass
        except AccessEndedError as exc:
            raise access_ended() from exc
        except ClientDisconnectedError:
            return Response(status_code=499)
        else:
            await ctx.confirm()
            applied = {**headers, "preference-applied": f"wait={wait_s:g}"}
            return _shown(show(session_id, session, seq, kept_s=ctx.kept_s, ignored=ignored), applied)
    session, seq = await load(ctx.history, session_id, ctx.tenant)
    position = None if session.finished else await ctx.sessions.queue_position(session_id)
    return _shown(show(session_id, session, seq, position, kept_s=ctx.kept_s, ignored=ignored), headers, 202)


@router.get("", responses=documented(example=SESSIONS), openapi_extra={"parameters": [METADATA_QUERY]})
async def list_sessions(
    request: Request,
    ctx: ReadAccess,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")] = None,
    status: Annotated[Status | None, Query(description="Only sessions in this state.")] = None,
) -> SessionList:
    """Your sessions, newest first, without their turns and checklists: `GET` a session for those.

    One whose events cannot be read has the error `session_unreadable`; one of which nothing can be read is in `unreadable`.
    """
    pairs = wanted_metadata(request).items()
    found: list[SessionView] = []
    lost: list[str] = []
    after = read_cursor(cursor)
    async with ctx.listings.slot(ctx.tenant):
        for _ in range(_PAGES_SCANNED):
            rows = await ctx.sessions.page(ctx.tenant, None if after is None else after[0] + 1, limit + 64)
            rows = [row for row in rows if after is None or (row[1], row[0]) < after]
            for at in range(0, len(rows), _READ_AT_ONCE):
                portion = rows[at : at + _READ_AT_ONCE]
                names = [name for name, _ in portion]
                logs, ratings = await ctx.history.read_many(names), await ctx.preferences.ratings(ctx.tenant, names)
                for (name, created_ms), log, rating in zip(portion, logs, ratings, strict=True):
                    after = (created_ms, name)
                    view = await _listed(ctx, name, log)
                    if isinstance(view, UnreadableSessionError):
                        lost += [] if status or pairs else [name]
                    elif view and status in {None, view.status} and pairs <= view.metadata.items():
                        found.append(view.model_copy(update={"rating": rating}))
                    if len(found) + len(lost) == limit:
                        return SessionList(data=found, unreadable=lost, next_cursor=write_cursor(after))
            if not rows:
                return SessionList(data=found, unreadable=lost, next_cursor=None)
    return SessionList(data=found, unreadable=lost, next_cursor=write_cursor(after) if after else None)


@router.get("/{session_id}", response_model=SessionView, responses=documented(example=SESSION, polled=True))
async def get_session(session_id: SessionId, ctx: SharedAccess) -> Response:
    """A session; while it is queued, also its position and its expected wait. `Retry-After` says when to ask again.

    Of one whose events cannot be read, it shows what came before them, with the error `session_unreadable`.
    """
    try:
        session, seq = await load(ctx.history, session_id, ctx.tenant)
        position = None if session.finished else await ctx.sessions.queue_position(session_id)
        view = show(session_id, session, seq, position, kept_s=ctx.kept_s)
    except UnreadableSessionError as exc:
        unreadable = _show_unreadable(session_id, exc)
        return _shown(without_private(unreadable) if ctx.share else unreadable)
    if ctx.share:
        return _shown(without_private(view))
    (rating,) = await ctx.preferences.ratings(ctx.tenant, [session_id])
    return _shown(view.model_copy(update={"rating": rating}))


@router.get("/{session_id}/image", response_class=Response, responses=documented(409, 416, ok=_IMAGE))
async def get_best_image(
    session_id: SessionId,
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """The best image so far, as the editor made it; for a finished session, its result."""
    session = await _session_of_image(ctx, session_id)
    top = session.finished.best if session.finished else best(session)
    if top is None:
        raise ApiError("image_not_found", "the session has made no image yet", param="session_id")
    final = session.finished is not None
    candidate, _, answer = images_of(session, top)
    return await _serve(
        ctx, session_id, session, answer, wanted, final=final, mark=ctx.marks.of_candidate(session_id, session, candidate)
    )


@router.get("/{session_id}/source", response_class=Response, responses=documented(416, ok=_IMAGE))
async def get_source_image(
    session_id: SessionId,
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """The source image."""
    session = await _session_of_image(ctx, session_id)
    source = session.created.source
    return await _serve(ctx, session_id, session, source, wanted, final=True, mark=ctx.marks.of_input(session, source))


@router.get("/{session_id}/references/{number}", response_class=Response, responses=documented(416, ok=_IMAGE))
async def get_reference_image(
    session_id: SessionId,
    number: Annotated[int, Path(ge=1, le=MAX_IMAGES)],
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """A reference: the picture that was sent `number` places after the source."""
    session = await _session_of_image(ctx, session_id)
    references = session.created.references
    if number > len(references):
        message = f"the session has {len(references)} references" if references else "the session has no reference"
        raise ApiError("image_not_found", message, param="number")
    image = references[number - 1]
    return await _serve(ctx, session_id, session, image, wanted, final=True, mark=ctx.marks.of_input(session, image))


@router.get("/{session_id}/mask", response_class=Response, responses=documented(416, ok=_IMAGE))
async def get_mask_image(
    session_id: SessionId,
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """The mask."""
    session = await _session_of_image(ctx, session_id)
    if session.created.mask is None:
        raise ApiError("image_not_found", "the session has no mask", param="session_id")
    return await _serve(ctx, session_id, session, session.created.mask, wanted, final=True)


@router.get(
    "/{session_id}/turns/{turn}/candidates/{candidate}/image", response_class=Response, responses=documented(416, ok=_IMAGE)
)
async def get_candidate_image(
    session_id: SessionId,
    turn: Annotated[int, Path(ge=1, le=10_000)],
    candidate: Annotated[int, Path(ge=1, le=10_000)],
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """One candidate's image, as the editor made it: it may be smaller than the session's result."""
    session = await _session_of_image(ctx, session_id)
    made, image, _ = images_of(session, CandidateRef(turn=turn, candidate=candidate))
    return await _serve(
        ctx, session_id, session, image, wanted, final=True, mark=ctx.marks.of_candidate(session_id, session, made)
    )


@router.get(
    "/{session_id}/turns/{turn}/candidates/{candidate}/answer", response_class=Response, responses=documented(416, ok=_IMAGE)
)
async def get_answer_image(
    session_id: SessionId,
    turn: Annotated[int, Path(ge=1, le=10_000)],
    candidate: Annotated[int, Path(ge=1, le=10_000)],
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """The picture of one of a finished session's results, at the size of the answer."""
    session = await _session_of_image(ctx, session_id)
    ref = CandidateRef(turn=turn, candidate=candidate)
    if session.finished is None or ref not in session.finished.results:
        raise ApiError("image_not_found", "only results of a finished session have this; ask for image", param="candidate")
    made, _, answer = images_of(session, ref)
    return await _serve(
        ctx, session_id, session, answer, wanted, final=True, mark=ctx.marks.of_candidate(session_id, session, made)
    )


@router.get(
    "/{session_id}/turns/{turn}/candidates/{candidate}/preview", response_class=Response, responses=documented(416, ok=_IMAGE)
)
async def get_preview_image(
    session_id: SessionId,
    turn: Annotated[int, Path(ge=1, le=10_000)],
    candidate: Annotated[int, Path(ge=1, le=10_000)],
    ctx: ImageAccess,
    wanted: Wanted,
) -> Response:
    """The unfinished picture by which an edit of a session with reject_early was judged while it ran."""
    session = await _session_of_image(ctx, session_id)
    known = session.candidate(CandidateRef(turn=turn, candidate=candidate))
    if known is None or known.preview is None:
        raise ApiError("image_not_found", "this candidate has no unfinished picture; ask for image", param="candidate")
    return await _serve(
        ctx, session_id, session, known.preview, wanted, final=True, mark=ctx.marks.of_candidate(session_id, session, known)
    )


@router.post("/{session_id}/cancel", responses=documented(example=SESSION))
async def cancel_session(session_id: SessionId, ctx: EditAccess) -> SessionView:
    """Cancel a session. Acknowledged at once; repeated, or for a finished session, it changes nothing."""
    try:
        session, seq = await ctx.cancel(session_id, by="caller")
    except UnreadableSessionError as exc:
        await ctx.cancel_unreadable(session_id, exc.facts, by="caller")
        return _show_unreadable(session_id, exc)
    return show(session_id, session, seq, kept_s=ctx.kept_s)


@router.post("/{session_id}/feedback", responses=documented(409, example=SESSION), openapi_extra=described(Feedback))
async def give_feedback(
    session_id: SessionId, ctx: EditAccess, feedback: Annotated[Feedback, Depends(read_as(Feedback))]
) -> SessionView:
    """Give feedback: `accept` the best candidate, `pick` one, `instruct` with a new instruction, or let the thinker `go_on`."""
    check_bytes("instruction", feedback.instruction)

    def event(session: Session) -> Event:
        _check_feedback(session, feedback)
        return FeedbackGiven(at=ctx.clock.now(), **_with_defaults(feedback).model_dump())

    session, seq = await ctx.write(session_id, event)
    return show(session_id, session, seq, kept_s=ctx.kept_s)


@router.delete("/{session_id}", status_code=204, response_class=Response, responses=documented(409))
async def delete_session(session_id: SessionId, ctx: EditAccess) -> Response:
    """Delete a finished session: its events, its images, and its archived document."""
    try:
        session, _ = await load(ctx.history, session_id, ctx.tenant)
        finished = session.finished is not None
    except UnreadableSessionError as exc:
        finished = exc.facts.finished
    if not finished or not await ctx.sessions.delete(session_id, ctx.tenant):
        raise ApiError("session_conflict", "the session is not finished; cancel it first", param="session_id")
    # A chore removes the folder again later: an image may be in flight, and this attempt may fail.
    with contextlib.suppress(StorageUnavailableError, TimeoutError):
        async with asyncio.timeout(_REMOVAL_S):
            await ctx.history.remove(session_id)
    return Response(status_code=204)


# --- pieces ------------------------------------------------------------------------------------------------------


def _shown(view: SessionView, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A session as a response, which says when to ask again where it is not finished."""
    after = poll_after_s(view)
    wait = {} if after is None else {"retry-after": str(after)}
    return Response(view.model_dump_json(), status, {**(headers or {}), **wait}, "application/json")


async def _listed(ctx: Context, session_id: str, log: list[Recorded]) -> SessionView | UnreadableSessionError | None:
    """A session in a list; the error of one of which nothing can be read; None for one that is gone."""
    try:
        if log:
            return summary(session_id, fold(recorded.event for recorded in log), log[-1].seq, kept_s=ctx.kept_s)
    except CorruptLogError:
        pass
    exc = await unreadable(ctx.history, session_id, ctx.tenant)
    if not isinstance(exc, UnreadableSessionError):
        return None
    return exc if exc.session is None else in_list(_show_unreadable(session_id, exc))


async def _session_of_image(ctx: Context, session_id: str) -> Session:
    """The session of the requested image."""
    session, _ = await load(ctx.history, session_id, None if ctx.signed_link else ctx.tenant)
    return session


def _show_unreadable(session_id: str, exc: UnreadableSessionError) -> SessionView:
    if exc.session is None:
        raise exc
    return show_unreadable(session_id, exc.session, exc.facts.seq, finished=exc.facts.finished)


def _with_defaults(feedback: Feedback) -> Feedback:
    """Feedback with defaults filled in."""
    if feedback.action == "pick" and feedback.candidate is None:
        return feedback.model_copy(update={"candidate": 1})
    return feedback


def _check_feedback(session: Session, feedback: Feedback) -> None:
    allowed: dict[str, set[Literal["turn", "candidate", "instruction"]]] = {
        "pick": {"turn", "candidate"},
        "instruct": {"instruction"},
    }
    for name in ("turn", "candidate", "instruction"):
        if getattr(feedback, name) is not None and name not in allowed.get(feedback.action, set()):
            raise ApiError("invalid_value", f"{name}: it has no meaning with action {feedback.action}", param=name)
    if feedback.action == "pick" and feedback.turn is None:
        raise ApiError("missing_parameter", "turn is missing; pick names a turn", param="turn")
    if feedback.action == "instruct" and feedback.instruction is None:
        raise ApiError("missing_parameter", "instruction is missing; instruct needs one", param="instruction")
    if session.finished or session.cancelled or session.accepted:
        raise ApiError("session_conflict", "the session is over and takes no more feedback", param="session_id")
    if feedback.action in {"instruct", "go_on"} and (full := _full(session)):
        message = f"{full}, the most that this server allows; accept or pick a candidate, or create another session"
        raise ApiError("session_conflict", message, param="action")
    if feedback.action == "go_on" and session.review is None:
        raise ApiError("session_conflict", "the session is not waiting for a review", param="action")
    if feedback.action == "accept" and best(session) is None:
        raise ApiError("session_conflict", "there is no candidate to accept yet", param="action")
    if feedback.action == "pick" and feedback.turn:
        images_of(session, CandidateRef(turn=feedback.turn, candidate=feedback.candidate or 1))


def _full(session: Session) -> str | None:
    """Which bound of the server keeps a session from another turn."""
    if turns_are_used_up(session):
        return f"the session has {len(session.turns)} turns"
    if session.bounds.feedback is not None and session.feedback >= session.bounds.feedback:
        return f"the session was given feedback {session.feedback} times"
    if log_is_full(session):
        return f"the session's events take {session.log_bytes:,} bytes"
    if images_are_full(session):
        return f"the session's images take {session.image_bytes:,} bytes"
    return None


def images_of(session: Session, ref: CandidateRef) -> tuple[Candidate, ImageRef, ImageRef]:
    """A candidate, its image, and its picture as a result."""
    candidate = session.candidate(ref)
    if candidate is None or candidate.image is None or candidate.answer is None:
        message = f"turn {ref.turn} has no image of candidate {ref.candidate}"
        raise ApiError("image_not_found", message, param="candidate" if candidate is None else "turn")
    return candidate, candidate.image, candidate.answer


async def _serve(
    ctx: Context,
    session_id: str,
    session: Session,
    image: ImageRef,
    wanted: WantedEncoding,
    *,
    final: bool,
    mark: Mark = UNMARKED,
) -> Response:
    # An image never changes; which one is the best does until the session is finished.
    cache = "private, max-age=31536000, immutable" if final else "private, no-cache"
    headers = {"cache-control": cache, "x-content-type-options": "nosniff"}
    encoding = _encoding(image, wanted)
    if _is_stored(encoding, wanted) and mark.claim is None:
        whole = Representation(f'"{image.sha256}{mark.tag}"', image.media_type, headers)
        return await stored_response(ctx.blobs, session_id, image, whole, wanted.request, mark)
    etag = f'"{"-".join((image.sha256, *encoding.name))}{mark.tag}"'
    whole = Representation(etag, f"image/{encoding.format}", headers)
    # Each signature differs from every other, so the tag of a signed picture is that of its bytes.
    if mark.claim is None and (known := whole.not_modified(wanted.request)):
        return known
    # The session's tenant: a signed link has none of its own.
    tenant = session.created.tenant
    async with contextlib.AsyncExitStack() as stack:
        held = await stack.enter_async_context(ctx.replies.open(tenant))
        await held.grow(size_of(image))
        work = _marked(ctx, session_id, image, encoding, mark, wanted=wanted, tenant=tenant)
        try:
            data = await while_connected(wanted.request, ctx.ends, work)
        except ClientDisconnectedError:
            return Response(status_code=499)
        except ShuttingDownError as exc:
            raise ApiError("not_ready", "this replica is shutting down; retry", retry_after=1) from exc
        except AccessEndedError as exc:
            raise (ApiError("forbidden", NOT_SHARED, param="share") if ctx.share else access_ended()) from exc
        if mark.claim is not None:
            whole = replace(whole, etag=f'"{digest(data)}"')
            if known := whole.not_modified(wanted.request):
                return known
        part = whole.part(wanted.request, len(data))
        if isinstance(part, Response):
            return part
        sent = data[part.start : part.end] if part.status == _PARTIAL else data
        return HeldResponse(sent, stack.pop_all(), part.status, media_type=whole.media_type, headers=part.headers)


def _encoding(image: ImageRef, wanted: WantedEncoding) -> Encoding:
    """The encoding that an image is served in."""
    output = wanted.format or _format_of(image.media_type)
    if wanted.compression is not None and output == "png":
        message = "compression: png has none; leave it out, or ask for format=jpeg or webp"
        raise ApiError("unsupported_parameter", message, param="compression")
    # One that is small enough is the same picture as without the parameter, under the same tag.
    reduced = wanted.max_side is not None and max(image.width, image.height) > wanted.max_side
    return Encoding(output, wanted.compression, wanted.background == "opaque", wanted.max_side if reduced else None)


def _is_stored(encoding: Encoding, wanted: WantedEncoding) -> bool:
    """Whether it is the image's own, as nothing else was asked for."""
    return wanted.format is None and encoding == Encoding(encoding.format)


async def _marked(
    ctx: Context, session_id: str, image: ImageRef, encoding: Encoding, mark: Mark, *, wanted: WantedEncoding, tenant: str
) -> bytes:
    """The image in that encoding, with its marks."""

    async def load() -> bytes:
        return await ctx.blobs.get(session_id, image.sha256)

    if _is_stored(encoding, wanted):
        made = await load()
    else:
        # Guests choose from many sizes: they wait for each other, and not their host for them.
        turn = f"{tenant}/guests" if ctx.share else tenant
        made = await ctx.transcodes.get(image.sha256, load, encoding, tenant=turn, param=wanted.param)
        mark = replace(mark, edited=mark.edited and ctx.share is None)  # which is noted where the tenant asked for it
    return await ctx.marks.finished(session_id, mark, made, (image.sha256, *encoding.name), ctx.blobs, tenant=tenant)


def _format_of(media_type: str) -> OutputFormat:
    formats: dict[str, OutputFormat] = {"image/jpeg": "jpeg", "image/webp": "webp"}
    return formats.get(media_type, "png")


def preferred_wait_s(prefer: list[str]) -> float:
    """The seconds of ``wait`` in the ``Prefer`` headers (RFC 7240): the first counts, and one that is not a number is ignored."""
    # parse_http_list respects commas within quotes.
    for preference in parse_http_list(",".join(prefer)):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"') or str(_LONGEST_WAIT_S)
            return min(float(seconds), _LONGEST_WAIT_S) if _SECONDS.fullmatch(seconds) else 0
    return 0
