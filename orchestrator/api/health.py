"""``/v1/models``, ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.responses import Response

from orchestrator.api.context import Context, context
from orchestrator.api.errors import documented
from orchestrator.api.examples import METRICS, MODELS, READY
from orchestrator.ports import Editor, StorageUnavailable, Thinker
from services.wire.errors import ApiError, error_body

router = APIRouter(tags=["service"])
_TEXT = {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}, "example": METRICS}}}
Ctx = Annotated[Context, Depends(context)]


class Model(BaseModel):
    """A configured editor or thinker, in OpenAI's shape."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str


class Models(BaseModel):
    """What can be named as `model`, then what can be named as `thinker`."""

    object: str = "list"
    data: list[Model]


@router.get("/v1/models", responses=documented(example=MODELS))
async def list_models(ctx: Ctx) -> Models:
    """The configured editors (`owned_by` editor) and thinkers (`owned_by` thinker); the defaults come first."""
    editors = [Model(id=name, owned_by="editor") for name in ctx.intake.catalogue.editors]
    thinkers = [Model(id=name, owned_by="thinker") for name in ctx.intake.catalogue.thinkers]
    return Models(data=[*editors, *thinkers])


@router.get("/healthz", responses=documented(example={"status": "ok"}))
async def health(ctx: Ctx) -> dict[str, str]:
    """The process runs and keeps its sessions moving."""
    if not ctx.driving():
        raise ApiError("not_ready", "this replica no longer drives sessions; restart it")
    return {"status": "ok"}


@router.get("/readyz", responses=documented(example=READY))
async def ready(ctx: Ctx) -> Any:
    """Whether an edit can be asked for now; says which dependency is missing."""
    names = [*(f"editor:{name}" for name in ctx.editors), *(f"thinker:{name}" for name in ctx.thinkers)]
    roles: list[Editor | Thinker] = [*ctx.editors.values(), *ctx.thinkers.values()]
    answers = await asyncio.gather(*(role.ready() for role in roles))
    checks = {"redis": await ctx.sessions.ping(), "driver": ctx.driving(), **dict(zip(names, answers, strict=True))}
    missing = [name for name, answer in checks.items() if not answer]
    if not missing:
        return {"status": "ready", "checks": checks}
    body = error_body("not_ready", f"not ready: {', '.join(missing)}")
    return Response(orjson.dumps({**body, "status": "not_ready", "checks": checks}), 503, media_type="application/json")


@router.get(
    "/metrics",
    response_class=Response,
    responses=documented(ok={200: _TEXT}),
)
async def metrics(ctx: Ctx) -> Response:
    """Prometheus metrics."""
    with contextlib.suppress(StorageUnavailable):  # the last figures stand
        line = await ctx.sessions.line()
        ctx.telemetry.standing(line.waiting, line.unfinished, line.replicas)
    return Response(generate_latest(ctx.registry), media_type=CONTENT_TYPE_LATEST)
