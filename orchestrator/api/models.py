"""``GET /v1/models``: the configured editors and thinkers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from orchestrator.api.context import Context, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import MODELS

router = APIRouter(tags=["service"])


class Model(BaseModel):
    """A configured editor or thinker, in OpenAI's shape."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str
    ready: bool = Field(description="Whether it, or its fallback, accepts requests now.")


class Models(BaseModel):
    """The editors (values of `model`), then the thinkers (values of `thinker`)."""

    object: str = "list"
    data: list[Model]


@router.get("/v1/models", responses=documented(example=MODELS))
async def list_models(ctx: Annotated[Context, Depends(read_access)]) -> Models:
    """The configured editors (`owned_by` editor) and thinkers (`owned_by` thinker); the defaults come first."""
    catalogue, results = ctx.intake.catalogue, await ctx.readiness.results()
    named = [("editor", name) for name in catalogue.editors] + [("thinker", name) for name in catalogue.thinkers]
    return Models(data=[Model(id=name, owned_by=role, ready=results.get(f"{role}:{name}", False)) for role, name in named])
