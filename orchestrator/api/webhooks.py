"""``/v1/webhooks``: endpoints that are notified of session events; and the deliveries of a session."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from orchestrator.api.bodies import described, read_as
from orchestrator.api.context import Context, edit_access, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import ID
from orchestrator.api.fields import LoopFields
from orchestrator.api.live import load
from orchestrator.egress.addresses import InvalidURLError
from orchestrator.webhooks.model import OWN_ENDPOINT, TOPICS, Attempt, Delivery, Endpoint, State, Topic
from services.errors import ApiError

router = APIRouter(tags=["webhooks"])

ReadAccess = Annotated[Context, Depends(read_access)]
EditAccess = Annotated[Context, Depends(edit_access)]
SessionId = Annotated[str, Path(pattern=r"^[^/]{1,200}$", examples=[ID])]
WebhookId = Annotated[str, Path(pattern=r"^[^/]{1,200}$", examples=["whk_9f2d0c6be2d14b5f"])]
_MAX_WEBHOOKS: Final = 16
"""Of one tenant."""
_MAX_PER_HOST: Final = 4
"""Of one tenant for one host: each session's events are sent once for each of them."""
_SECRET_BYTES: Final = 32
_MAX_SECRETS: Final = 4
"""That sign one delivery."""


class NewWebhook(BaseModel):
    """A new webhook: its URL and the events it subscribes to."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/hooks"}]})

    url: str = Field(min_length=1, max_length=2000, description="An https URL that accepts POST.")
    events: list[Topic] = Field(
        default=["session.finished", "session.awaiting_review"], min_length=1, max_length=10, description="The events to send."
    )
    description: str = Field("", max_length=500, description="A note of your own.")


class WebhookView(BaseModel):
    """A webhook; its secret is only in the responses that create or rotate it."""

    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    events: list[str]
    description: str
    created_at: float
    disabled: bool
    disabled_at: float | None


class CreatedWebhook(WebhookView):
    """A new webhook with its secret."""

    secret: str


class RotatedWebhook(CreatedWebhook):
    """A webhook with its new secret, and until when (Unix seconds) deliveries are signed with the one before as well."""

    previous_secret_until: float


class WebhookList(BaseModel):
    """Your webhooks, the oldest first."""

    object: Literal["list"] = "list"
    data: list[WebhookView]


class AttemptView(BaseModel):
    """One request to a webhook: the status of its response, or why there was none."""

    at: float
    status: int | None
    error: str | None
    duration_s: float


class TestResult(BaseModel):
    """The result of a test delivery."""

    delivered: bool
    attempt: AttemptView


class DeliveryView(BaseModel):
    """The delivery of one event to one webhook. `id` is the header ``webhook-id``, the same for every attempt."""

    id: str
    object: Literal["delivery"] = "delivery"
    webhook: str
    type: str
    state: State
    note: str | None
    next_at: float | None
    attempts: list[AttemptView]


class DeliveryList(BaseModel):
    """The deliveries of a session, in the order of its events."""

    object: Literal["list"] = "list"
    data: list[DeliveryView]


_WEBHOOK: Final[dict[str, Any]] = {
    "id": "whk_9f2d0c6be2d14b5f",
    "object": "webhook",
    "url": "https://example.com/hooks",
    "events": ["session.finished"],
    "description": "",
    "created_at": 1795488000.1,
    "disabled": False,
    "disabled_at": None,
}
_ATTEMPT: Final[dict[str, Any]] = {"at": 1795488000.8, "status": 204, "error": None, "duration_s": 0.041}
_DELIVERY: Final[dict[str, Any]] = {
    "id": "msg_2b1f0c6be2d14b5f9f0a8f6a3f4e2d1c",
    "object": "delivery",
    "webhook": "whk_9f2d0c6be2d14b5f",
    "type": "session.finished",
    "state": "delivered",
    "note": None,
    "next_at": None,
    "attempts": [_ATTEMPT],
}
_MADE: Final[dict[str, Any]] = {
    "description": "Created.",
    "content": {"application/json": {"example": {**_WEBHOOK, "secret": "whsec_…"}}},
}
_ROTATED: Final[dict[str, Any]] = {**_WEBHOOK, "secret": "whsec_…", "previous_secret_until": 1795574400.1}


@router.post("/v1/webhooks", status_code=201, responses=documented(ok={201: _MADE}), openapi_extra=described(NewWebhook))
async def create_webhook(ctx: EditAccess, webhook: Annotated[NewWebhook, Depends(read_as(NewWebhook))]) -> CreatedWebhook:
    """Create a webhook that is notified of session events. Its secret is in this response only."""
    _check_url(ctx, webhook.url, "url")
    endpoint = Endpoint(
        id=f"whk_{secrets.token_hex(8)}",
        url=webhook.url,
        secret=_new_secret(),
        events=tuple(dict.fromkeys(webhook.events)),
        description=webhook.description,
        created_at=ctx.clock.now(),
    )

    def check(others: Sequence[Endpoint]) -> None:
        if sum(other.host == endpoint.host for other in others) >= _MAX_PER_HOST:
            message = f"url: you have {_MAX_PER_HOST} webhooks of this host, and can have no more; delete one first"
            raise ApiError("invalid_value", message, param="url")
        if len(others) >= _MAX_WEBHOOKS:
            message = f"you have {_MAX_WEBHOOKS} webhooks, and can have no more; delete one first"
            raise ApiError("invalid_value", message, param="url")

    await ctx.endpoints.add(ctx.tenant, endpoint, check)
    return CreatedWebhook(**_show(endpoint).model_dump(), secret=endpoint.secret)


@router.get("/v1/webhooks", responses=documented(example={"object": "list", "data": [_WEBHOOK]}))
async def list_webhooks(ctx: ReadAccess) -> WebhookList:
    """Your webhooks, the oldest first, without their secrets."""
    return WebhookList(data=[_show(endpoint) for endpoint in await ctx.endpoints.endpoints(ctx.tenant)])


@router.get("/v1/webhooks/{webhook_id}", responses=documented(example=_WEBHOOK))
async def get_webhook(webhook_id: WebhookId, ctx: ReadAccess) -> WebhookView:
    """A webhook; `disabled` once it answered 410."""
    return _show(await _endpoint(ctx, webhook_id))


@router.delete("/v1/webhooks/{webhook_id}", status_code=204, response_class=Response, responses=documented())
async def delete_webhook(webhook_id: WebhookId, ctx: EditAccess) -> Response:
    """Delete a webhook; its pending deliveries are dropped."""
    if not await ctx.endpoints.remove(ctx.tenant, webhook_id):
        raise _unknown(webhook_id)
    return Response(status_code=204)


@router.post("/v1/webhooks/{webhook_id}/test", responses=documented(example={"delivered": True, "attempt": _ATTEMPT}))
async def test_webhook(webhook_id: WebhookId, ctx: EditAccess) -> TestResult:
    """Send `webhook.test` once, now, and return the attempt. A disabled webhook that accepts it is enabled again."""
    endpoint = await _endpoint(ctx, webhook_id)
    attempt = await ctx.webhooks.test(ctx.tenant, endpoint, f"msg_{secrets.token_hex(16)}")
    if attempt.delivered and endpoint.disabled_at is not None:
        await ctx.endpoints.enable(ctx.tenant, webhook_id, disabled_at=None)
    return TestResult(delivered=attempt.delivered, attempt=_show_attempt(attempt))


@router.post("/v1/webhooks/{webhook_id}/rotate_secret", responses=documented(429, example=_ROTATED))
async def rotate_secret(webhook_id: WebhookId, ctx: EditAccess) -> RotatedWebhook:
    """Rotate the secret of a webhook. The new secret is in this response only.

    For 24 hours deliveries are signed with both the previous and the new secret, then with the new one alone.
    """
    now, secret = ctx.clock.now(), _new_secret()

    def rotate(endpoint: Endpoint) -> Endpoint:
        known = endpoint.secrets(now)
        if len(known) >= _MAX_SECRETS:
            message = f"this webhook was rotated {len(known) - 1} times in 24 hours, which is the limit; try again later"
            raise ApiError("rate_limited", message, retry_after=endpoint.retired[len(known) - 2].until - now)
        return endpoint.rotated(secret, now)

    changed = await ctx.endpoints.change(ctx.tenant, webhook_id, rotate)
    if changed is None:
        raise _unknown(webhook_id)
    return RotatedWebhook(**_show(changed).model_dump(), secret=secret, previous_secret_until=changed.retired[0].until)


@router.get("/v1/sessions/{session_id}/deliveries", responses=documented(example={"object": "list", "data": [_DELIVERY]}))
async def list_deliveries(session_id: SessionId, ctx: ReadAccess) -> DeliveryList:
    """The webhook deliveries of a session with their attempts; kept for as long as the session is in Redis."""
    await load(ctx.history, session_id, ctx.tenant)
    return DeliveryList(data=[_show_delivery(delivery) for delivery in await ctx.endpoints.deliveries(session_id)])


# --- pieces ----------------------------------------------------------------------------------------------------------


async def _endpoint(ctx: Context, webhook_id: str) -> Endpoint:
    endpoint = await ctx.endpoints.endpoint(ctx.tenant, webhook_id)
    if endpoint is None:
        raise _unknown(webhook_id)
    return endpoint


def endpoint_of_request(ctx: Context, fields: LoopFields) -> str:
    """The record of the webhook that a request for a session names; empty if it names none.

    Raises:
        ApiError: when its URL may not be called.
    """
    if fields.webhook is None or fields.webhook_secret is None:
        return ""
    _check_url(ctx, fields.webhook, "webhook")
    endpoint = Endpoint(
        id=OWN_ENDPOINT,
        url=fields.webhook,
        secret=fields.webhook_secret,
        events=tuple(TOPICS.values()),
        created_at=ctx.clock.now(),
    )
    return endpoint.model_dump_json()


def _check_url(ctx: Context, url: str, param: str) -> None:
    try:
        ctx.webhooks.check(url)
    except InvalidURLError as exc:
        raise ApiError(exc.code, f"{param}: {exc.message}", param=param) from exc


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _unknown(webhook_id: str) -> ApiError:
    return ApiError("webhook_not_found", f"there is no webhook {webhook_id!r}", param="webhook_id")


def _show(endpoint: Endpoint) -> WebhookView:
    return WebhookView(
        id=endpoint.id,
        url=endpoint.url,
        events=list(endpoint.events),
        description=endpoint.description,
        created_at=endpoint.created_at,
        disabled=endpoint.disabled_at is not None,
        disabled_at=endpoint.disabled_at,
    )


def _show_attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(at=attempt.at, status=attempt.status, error=attempt.error, duration_s=attempt.duration_s)


def _show_delivery(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        webhook=delivery.webhook,
        type=delivery.type,
        state=delivery.state,
        note=delivery.note,
        next_at=delivery.next_at,
        attempts=[_show_attempt(attempt) for attempt in delivery.attempts],
    )
