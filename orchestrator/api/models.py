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
    images: int | None = Field(default=None, description="Pictures that an edit takes; null of a thinker, and while unknown.")
    mask: bool | None = Field(default=None, description="Whether an edit takes a mask; null likewise.")


class Models(BaseModel):
    """The editors (values of `model`), then the thinkers (values of `thinker`)."""

    object: str = "list"
    data: list[Model]


@router.get("/v1/models", responses=documented(example=MODELS))
async def list_models(ctx: Annotated[Context, Depends(read_access)]) -> Models:
    """The configured editors (`owned_by` editor) and thinkers (`owned_by` thinker); the defaults come first."""
    catalogue, results = ctx.intake.catalogue, await ctx.readiness.results()
    editors = [
        Model(id=name, owned_by="editor", ready=results.get(f"editor:{name}", False), images=takes.images, mask=takes.mask)
        for name, takes in catalogue.editors.items()
    ]
    thinkers = [Model(id=name, owned_by="thinker", ready=results.get(f"thinker:{name}", False)) for name in catalogue.thinkers]
    return Models(data=[*editors, *thinkers])
