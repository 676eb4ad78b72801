"""``GET /v1/models``: the configured editors with their aliases, and apart from them the thinkers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from orchestrator.api.context import Context, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import MODELS
from orchestrator.ports.collaborators import EditorCapabilities
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
    images: int | None = Field(default=None, description="Pictures that an edit takes; null of a thinker, and while unknown.")
    mask: bool | None = Field(default=None, description="Whether an edit takes a mask; null likewise.")
    draft: bool | None = Field(
        None, exclude_if=lambda draft: draft is None, description="Whether it makes drafts; absent of thinkers and while unknown."
    )
    loras: list[str] | None = Field(
        None,
        exclude_if=lambda names: names is None,
        description="LoRAs that an edit may name; absent where the editor tells none.",
    )
    preparer: str | None = Field(
        None, exclude_if=lambda name: name is None, description="What can rewrite an editor's instructions; absent if nothing."
    )
    prepare: bool | None = Field(
        None,
        exclude_if=lambda default: default is None,
        description="Whether it does where a request does not say; with `preparer`.",
    )
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

    def editor(name: str, takes: EditorCapabilities, alias: str | None = None) -> Model:
        return Model(
            id=alias or name,
            created=created,
            owned_by="editor",
            ready=results.get(f"editor:{name}", False),
            images=takes.images,
            mask=takes.mask,
            draft=takes.draft,
            loras=None if takes.loras is None or "lora" not in takes.parameters else sorted(takes.loras),
            preparer=takes.preparer,
            prepare=takes.prepare if takes.preparer else None,
            alias_of=name if alias else None,
        )

    def thinker(name: str) -> Model:
        ready = results.get(f"thinker:{name}", False)
        return Model(
            id=name,
            created=created,
            owned_by="thinker",
            ready=ready,
            draft=None,
            loras=None,
            preparer=None,
            prepare=None,
            alias_of=None,
        )

    aliases = [editor(name, catalogue.editors[name], alias) for alias, name in catalogue.aliases.items()]
    return Models(
        data=[*(editor(name, takes) for name, takes in catalogue.editors.items()), *aliases],
        thinkers=[thinker(name) for name in catalogue.thinkers],
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
