"""``/v1/preferences``: what people prefer: votes on pairs of pictures, and ratings of sessions; exported as training pairs."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from orchestrator.api.bodies import described, read_as
from orchestrator.api.context import Context, edit_access, read_access
from orchestrator.api.cursors import read_cursor, write_cursor
from orchestrator.api.errors import documented
from orchestrator.api.examples import ID, PREFERENCE, PREFERENCE_PAIR, PREFERENCES
from orchestrator.api.export import TRAINING, json_lines
from orchestrator.api.intake import REPLAYED, idempotency_key
from orchestrator.api.live import load
from orchestrator.loop.choosing import best
from orchestrator.loop.events import CandidateRef
from orchestrator.loop.session import CorruptLogError, Session, fold
from orchestrator.ports.stores import Choice, JudgedPicture, Preference, rating_id
from services.errors import ApiError

router = APIRouter(prefix="/v1/preferences", tags=["preferences"])

ReadAccess = Annotated[Context, Depends(read_access)]
EditAccess = Annotated[Context, Depends(edit_access)]
PreferenceId = Annotated[str, Path(pattern=r"^[^/]{1,210}$", examples=["prf_9f2d0c6be2d14b5f9f0a8f6a3f4e2d1c"])]
SessionName = Annotated[str, Field(pattern=r"^[^/]{1,200}$", examples=[ID])]
_LAST: Final = 10**11
_READ_AT_ONCE: Final = 16
"""Sessions' logs in memory at a time for one export."""
_PAGE: Final = 256
_CREATED: Final = {"description": "Stored.", "content": {"application/json": {"example": PREFERENCE}}}
_LINES: Final = {
    "description": "One pair a line.",
    "content": {"application/jsonl": {"schema": {"type": "string"}, "example": PREFERENCE_PAIR}},
}


class PictureName(BaseModel):
    """A picture of a session: one of its candidates, or its source."""

    model_config = ConfigDict(extra="forbid")

    session_id: SessionName
    turn: int | None = Field(None, ge=1, le=10_000, description="The turn of the candidate.")
    candidate: int | None = Field(None, ge=1, le=10_000, description="The turn's first if absent.")
    source: bool = Field(False, description="The session's source, in place of a candidate.")


class NewPreference(BaseModel):
    """What a person prefers: of two pictures one (`a`, `b`, `choice`), or how good a session is (`session_id`, `rating`)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"a": {"session_id": ID, "turn": 1}, "b": {"session_id": ID, "turn": 3}, "choice": "b", "label": "turns"},
                {"session_id": ID, "rating": 4},
            ]
        },
    )

    a: PictureName | None = None
    b: PictureName | None = Field(None, description="A picture of the same source, instruction, references and mask as `a`.")
    choice: Choice | None = Field(None, description="The better one, `tie`, or `skip`, which is listed and not exported.")
    session_id: SessionName | None = Field(None, description="With rating: the session.")
    rating: int | None = Field(None, ge=1, le=5, description="In place of a choice; it replaces the session's former one.")
    label: str | None = Field(None, min_length=1, max_length=64, description="What was compared, in your words: strategies.")
    reason: str | None = Field(None, min_length=1, max_length=1000, description="Why, in the person's words.")


class JudgedPictureView(BaseModel):
    """A picture that was judged, and who made it; everything but its session and digest is null for a source."""

    session_id: str
    sha256: str = Field(description="Digest of the picture as the editor made it.")
    turn: int | None
    candidate: int | None
    editor: str | None
    thinker: str | None
    judge: str | None = Field(description="Who scored it.")
    strategy: str | None


class PreferenceView(BaseModel):
    """What a person prefers; fields of the other kind, and those that were not sent, are left out."""

    id: str
    object: Literal["preference"] = "preference"
    created_at: float
    a: JudgedPictureView | None = Field(None, exclude_if=lambda value: value is None)
    b: JudgedPictureView | None = Field(None, exclude_if=lambda value: value is None)
    choice: Choice | None = Field(None, exclude_if=lambda value: value is None)
    session_id: str | None = Field(None, exclude_if=lambda value: value is None)
    rating: int | None = Field(None, exclude_if=lambda value: value is None)
    label: str | None = Field(None, exclude_if=lambda value: value is None)
    reason: str | None = Field(None, exclude_if=lambda value: value is None)


class PreferenceList(BaseModel):
    """A page of preferences, newest first."""

    object: Literal["list"] = "list"
    data: list[PreferenceView]
    next_cursor: str | None


@router.post(
    "",
    status_code=201,
    response_model=PreferenceView,
    responses=documented(422, 429, ok={201: _CREATED}),
    openapi_extra=described(NewPreference),
)
async def create_preference(
    request: Request, ctx: EditAccess, given: Annotated[NewPreference, Depends(read_as(NewPreference))]
) -> Response:
    """Store which of two pictures a person prefers, or a rating of a session. It is deleted with its sessions."""
    key = idempotency_key(request)
    ctx.storage.check_new_session()
    fingerprint = hashlib.sha256(given.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    # Of the key, so that a repeat finds the record itself for as long as it is kept.
    name = f"prf_{hashlib.sha256(key.encode()).hexdigest()[:32] if key else secrets.token_hex(16)}"
    new = await (_comparison if given.rating is None else _rating)(ctx, given, name, fingerprint)
    stored = await ctx.preferences.add(ctx.tenant, new)
    if stored.fingerprint != fingerprint:
        message = "Idempotency-Key: it was used for another request; use a new key for a new request"
        raise ApiError("idempotency_key_reused", message, param="Idempotency-Key")
    headers = {} if stored == new else REPLAYED
    return Response(_show(stored).model_dump_json(), 201, headers, "application/json")


@router.get("", responses=documented(example=PREFERENCES))
async def list_preferences(
    ctx: ReadAccess,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=400, description="`next_cursor` of the previous page.")] = None,
) -> PreferenceList:
    """Your votes and ratings, newest first."""
    after = read_cursor(cursor)
    rows = await ctx.preferences.page(ctx.tenant, None if after is None else after[0] + 1, limit + 65)
    # Those of one millisecond are ordered by their ids.
    left = [(at, each) for at, each in rows if after is None or (at, each.id) < after]
    page = left[:limit]
    following = write_cursor((page[-1][0], page[-1][1].id)) if len(left) > limit else None
    return PreferenceList(data=[_show(each) for _, each in page], next_cursor=following)


@router.get("/export", response_class=Response, responses=documented(429, ok={200: _LINES}))
async def export_preferences(
    ctx: ReadAccess,
    since: Annotated[float, Query(ge=0, le=_LAST, description="Created at or after; Unix seconds.")] = 0,
    until: Annotated[float | None, Query(ge=0, le=_LAST, description="Created before; Unix seconds.")] = None,
    training: Annotated[Literal["allowed"] | None, Query(description=TRAINING)] = None,
) -> Response:
    """Your votes as training pairs, oldest first, as JSON lines; without skips and ratings.

    The response has no length: if the connection breaks, the export is incomplete; request the rest with `since`.
    """
    # Whole milliseconds, as the index has them.
    until_ms = None if until is None else int(until * 1000)
    return await json_lines(ctx, _pairs(ctx, int(since * 1000), until_ms, training))


@router.delete("/{preference_id}", status_code=204, response_class=Response, responses=documented())
async def delete_preference(preference_id: PreferenceId, ctx: EditAccess) -> Response:
    """Take back a vote, or a rating, whose id is `rating_` and that of its session."""
    if not await ctx.preferences.remove(ctx.tenant, preference_id):
        raise ApiError("preference_not_found", f"there is no preference {preference_id!r}", param="preference_id")
    return Response(status_code=204)


# --- pieces ----------------------------------------------------------------------------------------------------------


async def _comparison(ctx: Context, given: NewPreference, name: str, fingerprint: str) -> Preference:
    if given.session_id is not None:
        message = "session_id: it has no meaning without rating; a and b name their sessions"
        raise ApiError("invalid_value", message, param="session_id")
    if given.a is None or given.b is None or given.choice is None:
        missing = next(field for field in ("a", "b", "choice") if getattr(given, field) is None)
        message = f"{missing} is missing; send two pictures a and b, and choice, or session_id and rating"
        raise ApiError("missing_parameter", message, param=missing)
    (a, first), (b, second) = await _picture(ctx, given.a, "a"), await _picture(ctx, given.b, "b")
    if a == b:
        raise ApiError("invalid_value", "b: it is the same picture as a; send another", param="b")
    if _task(first) != _task(second):
        message = "b.session_id: its source, instruction, references or mask differ from those of a; compare edits of the same"
        raise ApiError("invalid_value", message, param="b.session_id")
    sessions = tuple(dict.fromkeys((a.session_id, b.session_id)))
    said = (given.choice, None, given.label, given.reason)
    return Preference(name, ctx.clock.now(), sessions, a, b, *said, fingerprint)


async def _rating(ctx: Context, given: NewPreference, _: str, fingerprint: str) -> Preference:
    for field in ("a", "b", "choice"):
        if getattr(given, field) is not None:
            message = f"{field}: it has no meaning with rating, which is of one session"
            raise ApiError("invalid_value", message, param=field)
    if given.session_id is None:
        raise ApiError("missing_parameter", "session_id is missing; rating needs one", param="session_id")
    session = await _session(ctx, given.session_id, "session_id")
    if best(session) is None:
        raise ApiError("image_not_found", "session_id: the session has made no image yet", param="session_id")
    said = (None, given.rating, given.label, given.reason)
    sessions = (given.session_id,)
    return Preference(rating_id(given.session_id), ctx.clock.now(), sessions, None, None, *said, fingerprint)


async def _session(ctx: Context, session_id: str, param: str) -> Session:
    try:
        session, _ = await load(ctx.history, session_id, ctx.tenant)
    except ApiError as exc:
        raise ApiError(exc.code, f"{param}: {exc.message}", param=param) from exc
    return session


async def _picture(ctx: Context, name: PictureName, param: str) -> tuple[JudgedPicture, Session]:
    """A picture that is judged, and its session."""
    if name.source and (name.turn or name.candidate):
        message = f"{param}.source: it names the source, and turn and candidate another picture; send one of them"
        raise ApiError("invalid_value", message, param=f"{param}.source")
    if not name.source and name.turn is None:
        message = f"{param}.turn is missing; name the turn of the candidate, or send source: true"
        raise ApiError("missing_parameter", message, param=f"{param}.turn")
    session = await _session(ctx, name.session_id, f"{param}.session_id")
    if name.turn is None:
        return JudgedPicture(name.session_id, session.created.source.sha256), session
    ref = CandidateRef(turn=name.turn, candidate=name.candidate or 1)
    made = session.candidate(ref)
    if made is None or made.image is None:
        message = f"{param}: turn {ref.turn} has no image of candidate {ref.candidate}"
        raise ApiError("image_not_found", message, param=f"{param}.turn" if made is None else f"{param}.candidate")
    created = session.created
    makers = (made.editor or created.editor, created.thinker, created.judge or created.thinker, created.strategy)
    return JudgedPicture(name.session_id, made.image.sha256, ref.turn, ref.candidate, *makers), session


def _task(session: Session) -> tuple[object, ...]:
    """What was asked for, of which pictures can be compared."""
    created = session.created
    mask = created.mask.sha256 if created.mask else None
    return created.instruction, created.source.sha256, [image.sha256 for image in created.references], mask


def _show(preference: Preference) -> PreferenceView:
    about = {} if preference.rating is None else {"session_id": preference.sessions[0]}
    return PreferenceView.model_validate({**asdict(preference), **about})


async def _pairs(
    ctx: Context, since_ms: float, until_ms: float | None, training: Literal["allowed"] | None
) -> AsyncGenerator[dict[str, Any]]:
    """The lines of the export."""
    last, limit = (since_ms, ""), _PAGE
    while rows := await ctx.preferences.created_between(ctx.tenant, last[0], until_ms, limit):
        new = [(at, each) for at, each in rows if (at, each.id) > last]
        votes = [each for _, each in new if each.choice not in {None, "skip"}]
        for at in range(0, len(votes), _READ_AT_ONCE // 2):
            portion = votes[at : at + _READ_AT_ONCE // 2]
            sessions = await _sessions(ctx, {name for each in portion for name in each.sessions})
            for vote in portion:
                if not all(_is_there(judged, sessions) for judged in (vote.a, vote.b)):
                    continue
                if training is None or await _may_train(ctx, vote, sessions):
                    yield _pair(ctx.tenant, vote, sessions)
        if new:
            last = (new[-1][0], new[-1][1].id)
        elif len(rows) < limit:
            return
        else:
            # More in one millisecond than a page has rows.
            limit *= 2


async def _sessions(ctx: Context, names: Iterable[str]) -> dict[str, Session]:
    """Those that can be read."""
    ids: Sequence[str] = sorted(names)
    logs = await ctx.history.read_many(ids)
    read: dict[str, Session] = {}
    for name, log in zip(ids, logs, strict=True):
        with contextlib.suppress(CorruptLogError):
            if log:
                read[name] = fold(recorded.event for recorded in log)
    return read


async def _may_train(ctx: Context, vote: Preference, sessions: dict[str, Session]) -> bool:
    """Whether both of its sessions may be used for training."""
    for name in vote.sessions:
        if not await ctx.training.allows(ctx.tenant, name, sessions[name].created.training):
            return False
    return True


def _is_there(judged: JudgedPicture | None, sessions: dict[str, Session]) -> bool:
    """Whether the picture's session can be read, and has its turn: a failover may have lost the latest ones."""
    session = sessions.get(judged.session_id) if judged else None
    return session is not None and (judged is None or judged.turn is None or judged.turn <= len(session.turns))


def _pair(tenant: str, vote: Preference, sessions: dict[str, Session]) -> dict[str, Any]:
    created = sessions[vote.sessions[0]].created

    def picture(judged: JudgedPicture | None) -> dict[str, Any]:
        assert judged is not None
        turn = None if judged.turn is None else sessions[judged.session_id].turns[judged.turn - 1]
        return {**asdict(judged), "instruction": turn and turn.instruction}

    return {
        "object": "preference_pair",
        "version": 1,
        "id": vote.id,
        "tenant": tenant,
        "created_at": vote.created_at,
        "instruction": created.instruction,
        "source": created.source.sha256,
        "references": [image.sha256 for image in created.references],
        "mask": created.mask.sha256 if created.mask else None,
        "a": picture(vote.a),
        "b": picture(vote.b),
        "choice": vote.choice,
        "label": vote.label,
        "reason": vote.reason,
    }
