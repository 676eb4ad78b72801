"""``POST /v1/provenance``: what a picture says of its origin, whether that is valid, and whether this server made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from orchestrator.api.context import Context, read_access
from orchestrator.api.errors import documented
from orchestrator.api.examples import PROVENANCE
from services.errors import ApiError, shown
from services.imaging.manifests import changed
from services.imaging.marks import EDITED_BY_ALGORITHM, SYNTHETIC
from services.serving.byte_budget import receiving
from services.serving.multipart import open_form

router = APIRouter(tags=["service"])
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_FORM: Final = {"schema": {"type": "object", "required": ["image"], "properties": {"image": _BINARY["schema"]}}}
_KINDS: Final = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
_BODY: Final = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM, **dict.fromkeys(_KINDS, _BINARY)}}}
_OURS: Final = (EDITED_BY_ALGORITHM, *SYNTHETIC)
"""The types of pictures made here."""


class IptcView(BaseModel):
    """IPTC's Digital Source Type in XMP."""

    digital_source_type: str | None = Field(description="As the file says it; null if it says none.")
    error: str | None = Field(description="Why XMP of the file was not read; null if all was.")


class ActionView(BaseModel):
    """What a manifest says was done."""

    action: str
    software: str | None
    digital_source_type: str | None


class IngredientView(BaseModel):
    """A picture that another was made of, by its manifest."""

    title: str | None
    relationship: str | None
    generator: str | None = Field(description="Who made its own manifest; null if it has none.")
    state: Literal["valid", "invalid"] | None = Field(description="Its own manifest, when it was taken in; null if it had none.")
    reasons: list[str]
    actions: list[ActionView]


class ManifestView(BaseModel):
    """The active C2PA manifest."""

    state: Literal["trusted", "valid", "invalid", "unread"] = Field(
        description="trusted: valid, and signed by somebody whom the operator trusts; unread: `reasons` says why."
    )
    reasons: list[str] = Field(description="What does not validate, as codes of C2PA 2.2, section 15.2.")
    generator: str | None = None
    signed_by: str | None = Field(None, description="The organization in the certificate; only worth something if trusted.")
    signed_at: str | None = Field(None, description="By a time stamp; null without one.")
    actions: list[ActionView] = []
    ingredients: list[IngredientView] = []


class ProvenanceView(BaseModel):
    """What a picture says of its origin, and what this server knows of it."""

    object: Literal["provenance"] = "provenance"
    says_ai: bool = Field(description="Whether one of its marks says that a trained model made it or a part of it.")
    iptc: IptcView | None = Field(description="null if the file has no XMP.")
    c2pa: ManifestView | None = Field(description="null if the file has no C2PA manifest.")
    tampered: list[str] = Field(description="Signs that marks or pixels were changed after they were marked, in words.")
    made_here: Literal["yes", "not known"] = Field(
        description="Whether this server made it for you: the same file, one with other metadata, or the same pixels."
    )


@router.post("/v1/provenance", responses=documented(408, 413, 415, 429, example=PROVENANCE), openapi_extra=_BODY)
async def check_provenance(request: Request, ctx: Annotated[Context, Depends(read_access)]) -> ProvenanceView:
    """Tell what marks a picture carries, whether they validate, and whether this server made it for you.

    Send the picture as the body, or as the file part `image` of a form. Nothing of it is kept. `not known` is no denial: the
    picture may have been scaled, cropped, compressed again, made for another tenant, or made too long ago.
    """
    async with ctx.uploads.open(ctx.tenant) as held, receiving(ctx.uploads, request, factor=2, held=held) as body:
        data = await _picture(body, ctx.intake.limits.max_bytes)
        told, _ = await ctx.intake.decoder.provenance(
            data, limits=ctx.intake.limits, tenant=ctx.tenant, anchors=ctx.intake.anchors, digests=True
        )
    made = ctx.made is not None and await ctx.made.knows(ctx.tenant, [bytes.fromhex(each) for each in told["digests"]])
    return _shown(told, made=made, marked=ctx.marks.enabled)


async def _picture(request: Request, most: int) -> bytes:
    """The picture of a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with open_form(request, max_files=1, max_fields=1, max_file_bytes=most) as form:
            items = form.multi_items()
            for name, value in items:
                if name != "image" or not isinstance(value, UploadFile):
                    raise ApiError(
                        "unknown_parameter", f"{shown(name)}: send the picture as the file part image", param=shown(name)
                    )
            files = [await value.read() for _, value in items if isinstance(value, UploadFile)]
            if not files:
                raise ApiError("missing_parameter", "image is missing; send the picture as the file part image", param="image")
            return files[0]
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        message = f"the body is {shown(kind)}; send the picture itself, or a form with the file part image"
        raise ApiError("unsupported_media_type", message, param="image")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise ApiError("image_too_large", f"image has more than {most:,} bytes, which is the limit", param="image")
        parts.append(part)
    return b"".join(parts)


def _shown(told: Mapping[str, Any], *, made: bool, marked: bool) -> ProvenanceView:
    manifest = ManifestView.model_validate(told["manifest"]) if told["c2pa"] else None
    iptc = IptcView(digital_source_type=told["source_type"], error=told["broken"]) if told["xmp"] else None
    types = {told["source_type"], told.get("manifest", {}).get("digital_source_type")}
    tampered = changed(manifest.reasons) if manifest else []
    if made and marked and types.isdisjoint(_OURS):
        tampered.append("this server made the picture and marked it; the mark was removed or changed")
    return ProvenanceView(
        says_ai=bool(types & set(SYNTHETIC)),
        iptc=iptc,
        c2pa=manifest,
        tampered=tampered,
        made_here="yes" if made else "not known",
    )
