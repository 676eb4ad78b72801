"""``/v1/sessions/{id}/shares``: links with which people without a key look at one session, or at two of its pictures.

A share is a record that can be revoked, and a token: the signed name of that record. Routes that read one session take the token
in the parameter ``share`` (`orchestrator.api.context.shared_access`), since ``<img>`` and ``EventSource`` send no header.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from orchestrator.api.bodies import described, read_as
from orchestrator.api.context import Context, edit_access, read_access, shared_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import ID
from orchestrator.api.live import load
from orchestrator.api.sessions import SessionId, images_of
from orchestrator.api.view import ImageView
from orchestrator.loop.events import CandidateRef
from orchestrator.loop.session import Session
from orchestrator.ports.stores import SessionShare
from services.errors import ApiError

router = APIRouter(prefix="/v1/sessions/{session_id}/shares", tags=["sessions"])

ReadAccess = Annotated[Context, Depends(read_access)]
EditAccess = Annotated[Context, Depends(edit_access)]
SharedAccess = Annotated[Context, Depends(shared_access)]
ShareId = Annotated[str, Path(pattern=r"^[^/]{1,200}$", examples=["shr_5b1f0c6be2d14b5f"])]
PictureName = Annotated[str, Field(pattern=r"^(source|[1-9][0-9]{0,3}/[1-9][0-9]{0,3})$")]
_SHORTEST_S: Final = 60
_DEFAULT_S: Final = 7 * 86_400
_LONGEST_S: Final = 30 * 86_400
_FULL_RETRY_S: Final = 60


class NewShare(BaseModel):
    """A new share: until when, and of what."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"expires_in_s": 86400}]})

    expires_in_s: float = Field(_DEFAULT_S, ge=_SHORTEST_S, le=_LONGEST_S, description="Seconds until it expires.")
    pictures: list[PictureName] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="Two pictures to compare, each `source` or turn and candidate as `2/1`; the whole session if left out.",
    )


class SharedPicture(BaseModel):
    """A picture of a comparison: `source`, or turn and candidate as `2/1`."""

    name: str
    image: ImageView


class ShareView(BaseModel):
    """A share of a session; its token is only in the response that creates it."""

    id: str
    object: Literal["share"] = "share"
    session_id: str
    created_at: float
    expires_at: float
    pictures: list[SharedPicture] = Field(description="The two pictures that it shows; empty is the whole session.")


class CreatedShare(ShareView):
    """A new share with its token."""

    token: str = Field(description="For the parameter `share` of this session's routes.")
    url: str = Field(description="The page for people, relative to the server.")


class ShareList(BaseModel):
    """The shares of a session that are in effect, the oldest first."""

    object: Literal["list"] = "list"
    data: list[ShareView]


_SHARE: Final[dict[str, Any]] = {
    "id": "shr_5b1f0c6be2d14b5f",
    "object": "share",
    "session_id": ID,
    "created_at": 1795488000.1,
    "expires_at": 1796092800.1,
    "pictures": [],
}
_TOKEN: Final = f"shr_5b1f0c6be2d14b5f.{ID}.…"
_CREATED: Final[dict[str, Any]] = {
    "description": "Created.",
    "content": {"application/json": {"example": {**_SHARE, "token": _TOKEN, "url": f"/studio/shared/{_TOKEN}"}}},
}


@router.post("", status_code=201, responses=documented(429, ok={201: _CREATED}), openapi_extra=described(NewShare))
async def create_share(
    session_id: SessionId, ctx: EditAccess, wanted: Annotated[NewShare, Depends(read_as(NewShare))]
) -> CreatedShare:
    """Share a session read-only, or two of its pictures: the link works without a key until it expires or is revoked."""
    session, _ = await load(ctx.history, session_id, ctx.tenant)
    pictures = wanted.pictures or []
    for name in pictures:
        _picture(session_id, session, name)
    share = await ctx.shares.create(session_id, session.created.tenant, wanted.expires_in_s, pictures)
    if share is None:
        message = "you have as many shares as you may; revoke some, or let new ones expire sooner"
        raise ApiError("quota_exceeded", message, retry_after=_FULL_RETRY_S)
    token = await ctx.links.share_token(session_id, share.id)
    return CreatedShare(**_view(session, share).model_dump(), token=token, url=f"/studio/shared/{token}")


@router.get("", responses=documented(example={"object": "list", "data": [_SHARE]}))
async def list_shares(session_id: SessionId, ctx: ReadAccess) -> ShareList:
    """The shares of a session that are in effect."""
    session, _ = await load(ctx.history, session_id, ctx.tenant)
    return ShareList(data=[_view(session, share) for share in await ctx.shares.all(session_id, session.created.tenant)])


@router.get("/{share_id}", responses=documented(example=_SHARE))
async def get_share(session_id: SessionId, share_id: ShareId, ctx: SharedAccess) -> ShareView:
    """A share, also for its guests."""
    session, _ = await load(ctx.history, session_id, ctx.tenant)
    return _view(session, await _found(ctx, session_id, share_id))


@router.delete("/{share_id}", status_code=204, response_class=Response, responses=documented())
async def revoke_share(session_id: SessionId, share_id: ShareId, ctx: EditAccess) -> Response:
    """Revoke a share: its link is worthless from now on, and who watches is disconnected within seconds."""
    await load(ctx.history, session_id, ctx.tenant)
    await ctx.shares.revoke(await _found(ctx, session_id, share_id))
    return Response(status_code=204)


async def _found(ctx: Context, session_id: str, share_id: str) -> SessionShare:
    share = await ctx.shares.find(session_id, share_id)
    if share is None:
        raise ApiError("share_not_found", f"the session has no share {share_id!r}", param="share_id")
    return share


def _view(session: Session, share: SessionShare) -> ShareView:
    return ShareView(
        id=share.id,
        session_id=share.session_id,
        created_at=share.created_at,
        expires_at=share.expires_at,
        pictures=[_picture(share.session_id, session, name) for name in share.pictures],
    )


def _picture(session_id: str, session: Session, name: str) -> SharedPicture:
    path = f"/v1/sessions/{session_id}"
    if name == "source":
        return SharedPicture(name=name, image=ImageView(**session.created.source.model_dump(), url=f"{path}/source"))
    turn, candidate = (int(part) for part in name.split("/"))
    _, image, _ = images_of(session, CandidateRef(turn=turn, candidate=candidate))
    url = f"{path}/turns/{turn}/candidates/{candidate}/image"
    return SharedPicture(name=name, image=ImageView(**image.model_dump(), url=url))
