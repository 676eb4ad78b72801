"""Use for training: whether a tenant and a session allow it, withdrawing that, and the requests that critiques answered.

Consent is given on the operator's command line (``training allow``) and never by a request: a key that makes sessions must not be
able to give away what the tenant's people did not. It is withdrawn here as well.
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final, Literal

import orjson
import pybase64
from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from orchestrator.api.context import Context, edit_access, read_access
from orchestrator.api.errors import documented
from orchestrator.api.live import load, unreadable
from orchestrator.api.sessions import SessionId
from orchestrator.loop.events import Critiqued, Refined, Verified
from orchestrator.loop.session import CorruptLogError, fold
from orchestrator.ports.collaborators import CritiquePrompt
from orchestrator.ports.stores import Recorded
from services.errors import ApiError
from services.serving.byte_budget import HeldResponse

router = APIRouter(tags=["training"])

ReadAccess = Annotated[Context, Depends(read_access)]
EditAccess = Annotated[Context, Depends(edit_access)]
Seq = Annotated[int, Path(ge=1, le=1_000_000, description="The event's number in the session.")]


class TrainingView(BaseModel):
    """Whether sessions may be used for training."""

    object: Literal["training"] = "training"
    training: Literal["allowed", "denied"]


class CritiqueRequestView(BaseModel):
    """The chat request that a critique answered, and the reply."""

    object: Literal["critique_request"] = "critique_request"
    session_id: str
    seq: int
    messages: list[dict[str, Any]] = Field(description="As they were sent, pictures as data URLs.")
    reply: str = Field(description="The text of the reply, as it came.")


_ALLOWED: Final = {"object": "training", "training": "allowed"}
_REQUEST: Final[dict[str, Any]] = {
    "object": "critique_request",
    "session_id": "ses_5b1f0c6be2d14b5f9f0a8f6a3f4e2d1c",
    "seq": 5,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "…"}]}],
    "reply": "<think>…</think>",
}


@router.get("/v1/training", responses=documented(example=_ALLOWED))
async def get_training(ctx: ReadAccess) -> TrainingView:
    """Whether your tenant allows that its new sessions are used for training; only the operator can set it."""
    return _view(allowed=await ctx.training.grant(ctx.tenant) is not None)


@router.delete("/v1/training", status_code=204, response_class=Response, responses=documented())
async def withdraw_training(ctx: EditAccess) -> Response:
    """Withdraw your tenant's consent: none of its sessions is in a later export for training."""
    await ctx.training.deny(ctx.tenant)
    await _confirm(ctx)
    return Response(status_code=204)


@router.get("/v1/sessions/{session_id}/training", responses=documented(example=_ALLOWED))
async def get_session_training(session_id: SessionId, ctx: ReadAccess) -> TrainingView:
    """Whether a session may be used for training now."""
    session, _ = await load(ctx.history, session_id, ctx.tenant)
    return _view(allowed=await ctx.training.allows(ctx.tenant, session_id, session.created.training))


@router.delete("/v1/sessions/{session_id}/training", status_code=204, response_class=Response, responses=documented())
async def withhold_session(session_id: SessionId, ctx: EditAccess) -> Response:
    """Withhold a session from training, for good."""
    await load(ctx.history, session_id, ctx.tenant)
    await ctx.training.withhold(ctx.tenant, session_id)
    await _confirm(ctx)
    return Response(status_code=204)


@router.get(
    "/v1/sessions/{session_id}/critiques/{seq}",
    response_model=CritiqueRequestView,
    responses=documented(403, 409, 429, 502, example=_REQUEST),
)
async def get_critique_request(session_id: SessionId, seq: Seq, ctx: ReadAccess) -> Response:
    """The request that a critique of a session answered, exactly as the thinker got it, and its reply; for training alone.

    The event of that number is `critiqued`, `verified` or `refined`.
    """
    log = await _log(ctx, session_id)
    if not await ctx.training.allows(ctx.tenant, session_id, fold([log[0].event]).created.training):
        message = "the session may not be used for training; `training=allowed` of the export leaves such sessions out"
        raise ApiError("training_denied", message, param="session_id")
    found = next((recorded.event for recorded in log if recorded.seq == seq), None)
    if not isinstance(found, Critiqued | Verified | Refined):
        raise ApiError("critique_not_found", f"event {seq} of the session is not a critique", param="seq")
    if found.reply is None or found.prompt is None:
        raise ApiError("critique_not_found", f"event {seq} has no reply that was kept: it was too long, or no text", param="seq")
    before = fold(recorded.event for recorded in log if recorded.seq < seq)
    prompt = await ctx.critique_prompt(session_id, before, found)
    if prompt.digest != found.prompt:
        message = (
            f"event {seq}: the thinker's prompt or pictures are configured otherwise now, so its request cannot be made again"
        )
        raise ApiError("prompt_changed", message, param="seq")
    async with contextlib.AsyncExitStack() as stack:
        held = await stack.enter_async_context(ctx.replies.open(ctx.tenant))
        # As bytes, in base64, and in the body.
        await held.grow(sum(picture.ref.bytes for picture in prompt.pictures) * 4)
        view = {"object": "critique_request", "session_id": session_id, "seq": seq, "messages": await _messages(prompt)}
        body = orjson.dumps({**view, "reply": found.reply})
        return HeldResponse(body, stack.pop_all(), media_type="application/json", headers={"cache-control": "no-store"})


async def _log(ctx: Context, session_id: str) -> list[Recorded]:
    """The events of a session of the caller's tenant.

    Raises:
        ApiError: ``session_not_found``, ``session_unreadable``.
    """
    try:
        log = await ctx.history.read(session_id)
        tenant = fold([log[0].event]).created.tenant if log else None
    except CorruptLogError as exc:
        raise await unreadable(ctx.history, session_id, ctx.tenant) from exc
    if tenant != ctx.tenant:
        raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id")
    return log


def _view(*, allowed: bool) -> TrainingView:
    return TrainingView(training="allowed" if allowed else "denied")


async def _confirm(ctx: Context) -> None:
    """Let a withdrawal be acknowledged only where a failover would not undo it."""
    if not await ctx.sessions.confirm():
        shown = "it is withdrawn, but a replica of the session store did not confirm that in time; repeat the request"
        raise ApiError("storage_unavailable", shown, retry_after=1)


async def _messages(prompt: CritiquePrompt) -> list[dict[str, Any]]:
    """The messages with the pictures in place of their numbers."""
    urls = []
    for picture in prompt.pictures:
        encoded = pybase64.b64encode(await picture.load()).decode()
        urls.append(f"data:{picture.ref.media_type};base64,{encoded}")

    def part(given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "image_url": {"url": urls[int(given["image_url"]["url"])]}} if given["type"] == "image_url" else given

    return [{**message, "content": [part(each) for each in message["content"]]} for message in prompt.messages]
