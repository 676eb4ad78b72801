"""``GET /v1/models``: the configured editors with their aliases, and apart from them the thinkers and judges."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from orchestrator.api.context import Context, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import MODELS
from orchestrator.ports.collaborators import CheckResult, EditorCapabilities
from services.errors import ApiError

router = APIRouter(tags=["service"])
ReadAccess = Annotated[Context, Depends(read_access)]


class Check(BaseModel):
    """What came of asking a judge about a small fixed set, each case against a good edit."""

    passed: bool
    margins: dict[str, float] | None = Field(
        description="Points of 10 by which it scored the good edit higher; at least 1 passes. null of one that does not score."
    )
    preferences: dict[str, int] | None = Field(
        description="1: it preferred the good edit in both orders, 0: a tie, -1: the other. null of one that does not compare."
    )


class Model(BaseModel):
    """A configured editor, thinker or judge, in OpenAI's shape."""

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
    previews: bool | None = Field(
        None,
        exclude_if=lambda previews: previews is None,
        description="Whether it sends unfinished pictures, which reject_early needs; absent likewise.",
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
    check: Check | None = Field(
        None,
        exclude_if=lambda check: check is None,
        description="Of a thinker or judge, whether it can tell a good edit from none; absent until it has answered.",
    )


class Models(BaseModel):
    """The editors and their aliases (values of `model`), the thinkers (values of `thinker`), and the judges (of `judge`)."""

    object: str = "list"
    data: list[Model]
    thinkers: list[Model] = Field(description="Not among `data`, where clients look for models that make images.")
    judges: list[Model] = Field(description="Those that are no thinkers; a thinker can be named as a judge too.")


@router.get("/v1/models", responses=documented(example=MODELS))
async def list_models(ctx: ReadAccess) -> Models:
    """The configured editors and their aliases as `data`, the thinkers and judges apart from them; the defaults come first."""
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
            previews=takes.previews,
            loras=None if takes.loras is None or "lora" not in takes.parameters else sorted(takes.loras),
            preparer=takes.preparer,
            prepare=takes.prepare if takes.preparer else None,
            alias_of=name if alias else None,
            check=None,
        )

    def other(role: str, name: str) -> Model:
        ready, check = results.get(f"{role}:{name}", False), _check(ctx.judge_checks.get(name))
        return Model(
            id=name,
            created=created,
            owned_by=role,
            ready=ready,
            draft=None,
            previews=None,
            loras=None,
            preparer=None,
            prepare=None,
            alias_of=None,
            check=check,
        )

    aliases = [editor(name, catalogue.editors[name], alias) for alias, name in catalogue.aliases.items()]
    return Models(
        data=[*(editor(name, takes) for name, takes in catalogue.editors.items()), *aliases],
        thinkers=[other("thinker", name) for name in catalogue.thinkers],
        judges=[other("judge", name) for name in catalogue.judges],
    )


def _check(result: CheckResult | None) -> Check | None:
    if result is None:
        return None
    margins = dict(result.margins) if result.margins is not None else None
    preferences = dict(result.preferences) if result.preferences is not None else None
    return Check(passed=not result.failed, margins=margins, preferences=preferences)


@router.get("/v1/models/{model:path}", responses=documented(example=MODELS["data"][0]))
async def show_model(model: str, ctx: ReadAccess) -> Model:
    """One editor, alias, thinker or judge; of an editor and another of the same name, the editor."""
    if not model:
        raise ApiError("not_found", "the path ends with a slash; send the request to /v1/models")
    listed = await list_models(ctx)
    for each in (*listed.data, *listed.thinkers, *listed.judges):
        if each.id == model:
            return each
    known = ", ".join(each.id for each in (*listed.data, *listed.thinkers, *listed.judges))
    raise ApiError("model_not_found", f"model {model!r} is not configured; known are: {known}", param="model")
