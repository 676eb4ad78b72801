"""``GET /v1/models``: the configured editors with their aliases, and apart from them the thinkers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from orchestrator.api.context import Context, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import MODELS
from services.errors import ApiError

router = APIRouter(tags=["service"])
ReadAccess = Annotated[Context, Depends(read_access)]


class Model(BaseModel):
    """A configured editor or thinker, in OpenAI's shape."""

    id: str
    object: str = "model"
    created: int = Field(description="When this replica started, Unix seconds.")
    owned_by: str
    ready: bool = Field(description="Whether it, or its fallback, accepts requests now.")
    alias_of: str | None = Field(
        None, exclude_if=lambda name: name is None, description="The editor that this is another name of."
    )


class Models(BaseModel):
    """The editors and their aliases (values of `model`), and the thinkers (values of `thinker`)."""

    object: str = "list"
    data: list[Model]
    thinkers: list[Model] = Field(description="Not among `data`, where clients look for models that make images.")


@router.get("/v1/models", responses=documented(example=MODELS))
async def list_models(ctx: ReadAccess) -> Models:
    """The configured editors and their aliases as `data`, the thinkers as `thinkers`; the defaults come first."""
    catalogue, results = ctx.intake.catalogue, await ctx.readiness.results()
    created = ctx.started_at

    def model(role: str, name: str, alias: str | None = None) -> Model:
        ready = results.get(f"{role}:{name}", False)
        of = name if alias else None
        return Model(id=alias or name, created=created, owned_by=role, ready=ready, alias_of=of)

    aliases = [model("editor", name, alias) for alias, name in catalogue.aliases.items()]
    return Models(
        data=[*(model("editor", name) for name in catalogue.editors), *aliases],
        thinkers=[model("thinker", name) for name in catalogue.thinkers],
    )


@router.get("/v1/models/{model:path}", responses=documented(example=MODELS["data"][0]))
async def show_model(model: str, ctx: ReadAccess) -> Model:
    """One editor, alias or thinker; of an editor and a thinker of the same name, the editor."""
    if not model:
        raise ApiError("not_found", "the path ends with a slash; send the request to /v1/models")
    listed = await list_models(ctx)
    for each in (*listed.data, *listed.thinkers):
        if each.id == model:
            return each
    known = ", ".join(each.id for each in (*listed.data, *listed.thinkers))
    raise ApiError("model_not_found", f"model {model!r} is not configured; known are: {known}", param="model")
