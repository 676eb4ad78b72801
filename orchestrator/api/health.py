"""``/healthz`` (also ``/health``), ``/readyz``, ``/metrics``: for those who operate the service, without a key."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from orchestrator.api.context import Context, context
from orchestrator.api.errors import documented
from orchestrator.api.examples import METRICS, READY
from orchestrator.ports.errors import StorageUnavailableError
from services.errors import ApiError, error_body

router = APIRouter(tags=["service"])
_TEXT = {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}, "example": METRICS}}}
Ctx = Annotated[Context, Depends(context)]


@router.get("/health", responses=documented(keyed=False, example={"status": "ok"}), operation_id="health")
@router.get("/healthz", responses=documented(keyed=False, example={"status": "ok"}))
async def health(ctx: Ctx) -> dict[str, str]:
    """The process runs and drives its sessions."""
    if not ctx.driving():
        raise ApiError("not_ready", "this replica no longer drives sessions; restart it")
    return {"status": "ok"}


@router.get("/readyz", responses=documented(keyed=False, example=READY))
async def ready(ctx: Ctx) -> Any:
    """Whether this replica can serve edits: Redis and the blob store accept writes, the driver runs and does not shut down,
    and at least one editor and one thinker are ready.
    """
    results, refusals = await ctx.readiness.results(), ctx.storage.refusals
    vital = {
        "redis": "redis" not in refusals and await ctx.sessions.ping(),
        "blobs": "blobs" not in refusals,
        "driver": ctx.driving() and not ctx.shutdown.draining.is_set(),
    }
    checks = {**vital, **results}
    for role in ("editor", "thinker"):
        of_role = {name: up for name, up in results.items() if name.startswith(f"{role}:")}
        vital |= {} if any(of_role.values()) else of_role
    missing = [name for name, up in vital.items() if not up]
    if not missing:
        return {"status": "ready", "checks": checks}
    reasons = (f"{name} ({refusals[name]})" if name in refusals else name for name in missing)
    body = error_body("not_ready", f"not ready: {', '.join(reasons)}")
    return Response(orjson.dumps({**body, "status": "not_ready", "checks": checks}), 503, media_type="application/json")


@router.get(
    "/metrics",
    response_class=Response,
    responses=documented(keyed=False, ok={200: _TEXT}),
)
async def metrics(ctx: Ctx) -> Response:
    """Prometheus metrics."""
    try:
        stats = await ctx.sessions.queue_stats()
        ctx.metrics.redis_read(stats.queued, stats.unfinished, stats.replicas)
    except StorageUnavailableError:
        ctx.metrics.redis_unavailable()
    return Response(generate_latest(ctx.registry), media_type=CONTENT_TYPE_LATEST)
