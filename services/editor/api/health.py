"""``/v1/models``, ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.editor.api.context import Context, context, documented
from services.editor.api.fields import unknown_model
from services.editor.engine.executor import State
from services.editor.pipelines import Pipeline
from services.errors import error_body

router = APIRouter(tags=["service"])
Ctx = Annotated[Context, Depends(context)]
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


class Speed(BaseModel):
    """How the model runs: the preset, the options in effect, and what the preset left out here."""

    preset: str
    applied: dict[str, str]
    left_out: list[str]


class Model(BaseModel):
    """A model in OpenAI's shape, with its capabilities."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "editthinker"
    parent: str | None = Field(None, description="The model without the LoRA, of one that is a LoRA's.")
    capabilities: dict[str, Any]
    speed: Speed


class Models(BaseModel):
    """The model that this worker serves, and itself with each of its LoRAs."""

    object: str = "list"
    data: list[Model]


def _models(pipeline: Pipeline, started_at: float) -> list[Model]:
    base = _model(pipeline, started_at)

    def with_lora(name: str, scale: float) -> Model:
        capabilities = {**base.capabilities, "loras": {name: scale}}
        return base.model_copy(update={"id": name, "parent": base.id, "capabilities": capabilities})

    return [base, *(with_lora(name, scale) for name, scale in pipeline.capabilities.loras.items())]


def _model(pipeline: Pipeline, started_at: float) -> Model:
    supported = pipeline.capabilities
    ranges = {
        name: {"low": allowed.low, "high": allowed.high, "default": allowed.default}
        for name, allowed in supported.parameters.items()
    }
    capabilities = {
        "mask": supported.mask,
        "negative_prompt": supported.negative_prompt,
        "size": supported.resize,
        "images": supported.max_images,
        "source_key": True,
        "partial_images": supported.partial_images,
        "prompt_tokens": supported.prompt_tokens,
        "native_pixels": supported.native_pixels,
        "boxes": supported.boxes,
        "draft": supported.draft,
        "deterministic": supported.deterministic,
        "trained": supported.trained,
        "parameters": ranges,
        "loras": dict(supported.loras),
    }
    report = supported.speed
    speed = Speed(preset=report.preset, applied=dict(report.applied), left_out=list(report.left_out))
    return Model(id=pipeline.name, created=int(started_at), parent=None, capabilities=capabilities, speed=speed)


@router.get("/v1/models", responses=documented())
async def list_models(ctx: Ctx) -> Models:
    """The models that requests may name, with their capabilities: the one served, and itself with each LoRA."""
    return Models(data=_models(ctx.pipeline, ctx.started_at))


@router.get("/v1/models/{model}", responses=documented())
async def show_model(model: str, ctx: Ctx) -> Model:
    """One model."""
    for each in _models(ctx.pipeline, ctx.started_at):
        if each.id == model:
            return each
    raise unknown_model(model, ctx.pipeline.name, ctx.pipeline.capabilities)


@router.get("/healthz", responses=documented())
async def alive(ctx: Ctx) -> Any:
    """Liveness: 503 once the pipeline is dead, so that the process is restarted."""
    if ctx.executor.state is State.DEAD:
        return _unready(ctx)
    return {"status": "ok"}


@router.get("/readyz", responses=documented())
async def ready(ctx: Ctx) -> Any:
    """Readiness: from the warm-up until shutdown or the pipeline's death."""
    if ctx.executor.state is not State.READY:
        return _unready(ctx)
    return {"status": "ready"}


def _unready(ctx: Context) -> Response:
    body = {**error_body("not_ready", f"not ready: {ctx.executor.cause}"), "status": ctx.executor.state.value}
    return Response(orjson.dumps(body), 503, media_type="application/json")


@router.get("/metrics", response_class=Response, responses=documented(ok=_TEXT))
async def metrics(ctx: Ctx) -> Response:
    """Prometheus metrics."""
    return Response(generate_latest(ctx.metrics.registry), media_type=CONTENT_TYPE_LATEST)
