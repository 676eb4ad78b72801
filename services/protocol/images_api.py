"""The Images API, ``POST /v1/images/edits``, for clients and servers: fields, multipart form, replies, events.

Source: openai-python 3.54 (``types/image_edit_params.py``, ``images_response.py``, ``image_edit_*_event.py``) and
the requests that client sends: a single file is a part named ``image``, a list is repeated ``image[]``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.errors import MAX_NAME, NOT_AN_OBJECT, OBJECT_EXPECTED, ApiError, reason_of, shown
from services.imaging.codec import OutputFormat

MAX_PROMPT: Final = 32_000
_MAX_FIELDS: Final = 200
"""Fields of a request: more than a form may have, and several times the number there is."""
_UNFIT: Final = re.compile("[\x00\ud800-\udfff]")
_Model = TypeVar("_Model", bound=BaseModel)
_VALIDATOR_NAME: Final = re.compile(r"function-(?:before|after|plain|wrap)\[")
"""Names of validators in the path of a pydantic error, which are not names of the caller's fields."""
SIZE_PATTERN: Final = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"


RAW_IMAGE: Final = "application/vnd.editthinker.image"
"""The media type of a reply that is one picture's bytes, in place of base64 in JSON: for callers whose Accept names it. Servers
that do not know it answer JSON.
"""
RAW_TIMINGS: Final = "x-edit-timings"
"""The header of such a reply that holds the field ``timings`` of the JSON one."""


def pixels_of(size: str) -> tuple[int, int] | None:
    """A size as (width, height), or None for ``auto``."""
    width, _, height = size.partition("x")
    return (int(width), int(height)) if width.isdigit() and height.isdigit() else None


def _well_formed(value: object) -> object:
    # A longer text is refused for its length, without being read.
    if isinstance(value, str) and len(value) <= MAX_PROMPT and _UNFIT.search(value):
        raise ValueError("must be valid Unicode text without NUL")
    return value


def _not_blank(value: object) -> object:
    if isinstance(value, str) and len(value) <= MAX_PROMPT and not value.strip():
        raise ValueError("must not be empty")
    return _well_formed(value)


# The validator comes last: before the length, it would hide from pydantic that the length is a string's, in characters.
Prompt = Annotated[str, Field(max_length=MAX_PROMPT, examples=["make it feel like golden hour"]), BeforeValidator(_not_blank)]
NegativePrompt = Annotated[str, Field(max_length=MAX_PROMPT), BeforeValidator(_well_formed)]
"""May be blank."""
MetadataKey = Annotated[str, Field(min_length=1, max_length=64), BeforeValidator(_well_formed)]
MetadataValue = Annotated[str, Field(max_length=512), BeforeValidator(_well_formed)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""A caller's own pairs, with the limits that OpenAI's API has."""


class EditFields(BaseModel):
    """OpenAI's own fields of an edit request, without its files. Services add theirs by subclassing.

    OpenAI's fields that only apply to its own models are accepted at their neutral value and refused otherwise: a
    parameter that cannot be honoured is never ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Prompt = Field(description="What the edit should do, in words.")
    model: str | None = Field(None, max_length=200, description="Which configured editor; the default one if absent.")
    n: int = Field(1, ge=1, le=10, description="How many images to return.")
    size: str = Field("auto", pattern=SIZE_PATTERN, description="`auto` (the source's size) or WIDTHxHEIGHT in pixels.")
    response_format: Literal["b64_json", "url"] = Field("b64_json", description="Images inline, or as URLs.")
    output_format: OutputFormat | None = Field(None, description="Encoding of the returned images; the source's if absent.")
    output_compression: int | None = Field(None, ge=0, le=100, description="Quality of jpeg and webp, 0-100.")
    stream: bool = Field(False, description="Answer with server-sent events.")
    partial_images: int | None = Field(None, ge=0, le=3, description="How many partial images to stream.")
    user: str | None = Field(None, max_length=500, description="The end user, for your own logs.")
    quality: Literal["auto"] | None = Field(None, description="Only `auto`.")
    background: Literal["auto"] | None = Field(None, description="Only `auto`.")

    def pixels(self) -> tuple[int, int] | None:
        """`size` as (width, height), or None for ``auto``."""
        return pixels_of(self.size)


class ImageData(BaseModel):
    """One returned image; the official client keeps unknown keys, so services may add their own."""

    model_config = ConfigDict(extra="allow")

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class ImagesResponse(BaseModel):
    """The reply of an edit request."""

    model_config = ConfigDict(extra="allow")

    created: int
    data: list[ImageData]
    output_format: OutputFormat | None = None
    size: str | None = None


class _Upload(Protocol):
    async def read(self, size: int = -1) -> bytes: ...


class _Form(Protocol):
    def multi_items(self) -> list[tuple[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class EditForm:
    """A received multipart form: text fields by name, and the files as bytes."""

    fields: dict[str, str]
    images: tuple[bytes, ...]
    mask: bytes | None


async def read_form(form: _Form) -> EditForm:
    """Read Starlette's form data: ``image``, repeated ``image`` and ``image[]`` are the same list.

    Raises:
        ApiError: ``invalid_value`` when a text field is given twice or as a file, or a file as text.
    """
    fields: dict[str, str] = {}
    images: list[bytes] = []
    mask: bytes | None = None
    for name, value in form.multi_items():
        is_file = not isinstance(value, str)
        if name in {"image", "image[]"}:
            images.append(await _file(value, "image"))
        elif name == "mask" and mask is not None:
            raise ApiError("invalid_value", "mask was given more than once; send it once", param="mask")
        elif name == "mask":
            mask = await _file(value, "mask")
        elif is_file:
            raise ApiError("invalid_value", f"{shown(name)} was sent as a file; send it as a text field", param=name)
        elif name in fields:
            raise ApiError("invalid_value", f"{shown(name)} was given more than once; send it once", param=name)
        else:
            fields[name] = value
    return EditForm(fields, tuple(images), mask)


def single_image(form: EditForm) -> bytes:
    """The single source image of a form.

    Raises:
        ApiError: when there is none, or more than one.
    """
    if not form.images:
        raise ApiError("missing_parameter", "image is missing; send the picture to edit as the file part `image`", param="image")
    if len(form.images) > 1:
        message = f"image was given {len(form.images)} times; one source image is supported, send exactly one"
        raise ApiError("invalid_value", message, param="image")
    return form.images[0]


def validate(model: type[_Model], fields: object) -> _Model:
    """Validate fields against a model.

    Raises:
        ApiError: naming the first field at fault and the fix, in words.
    """
    if isinstance(fields, Mapping):
        _check_names(fields)
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        raise explain(exc, model) from exc


def _check_names(fields: Mapping[Any, Any]) -> None:
    """Bound the names before anything looks at them: their number, and their length."""
    if len(fields) > _MAX_FIELDS:
        message = f"the request has {len(fields):,} fields; the most are {_MAX_FIELDS}"
        raise ApiError("unknown_parameter", message)
    for name in fields:
        if len(name) > MAX_NAME:
            raise ApiError("unknown_parameter", f"{shown(name)} is not a parameter of this request", param=shown(name))


def explain(exc: ValidationError, model: type[BaseModel] | None = None) -> ApiError:
    """Pydantic's first error as an `ApiError` for the caller."""
    first = exc.errors(include_url=False, include_context=True, include_input=False)[0]
    path = [shown(str(part)) for part in first["loc"] if not _VALIDATOR_NAME.match(str(part))]
    param = ".".join(path) or None
    kind = first["type"]
    if kind == "missing":
        return ApiError("missing_parameter", f"{param} is missing; send it", param=param)
    if kind == "extra_forbidden":
        known = sorted(model.model_fields) if model else []
        close = difflib.get_close_matches(path[-1], known, 1) if path else []
        hint = f"; did you mean {close[0]}?" if close else (f"; known are: {', '.join(known)}" if known else "")
        name = param or "a field without a name"
        return ApiError("unknown_parameter", f"{name} is not a parameter of this request{hint}", param=param)
    if kind in NOT_AN_OBJECT:
        return ApiError("invalid_value", f"{param or 'the request body'}: {OBJECT_EXPECTED}", param=param)
    text = reason_of(first)
    if kind == "string_pattern_mismatch" and model and path and (field := model.model_fields.get(path[-1])):
        text = f"write {str(field.description).removesuffix('.')}"
    return ApiError("invalid_value", f"{param}: {text}" if param else text, param=param)


async def _file(value: _Upload | str, name: str) -> bytes:
    if isinstance(value, str):
        message = f"{name} was sent as text; send it as a file part of multipart/form-data"
        raise ApiError("invalid_value", message, param=name)
    return await value.read()


def form_schema(model: type[BaseModel], *, mask: bool = True) -> dict[str, Any]:
    """The OpenAPI request body of an edit form whose text fields are `model`'s."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    files = {"image": {"type": "string", "format": "binary", "description": "The source image: PNG, JPEG or WebP."}}
    if mask:
        files["mask"] = {"type": "string", "format": "binary", "description": "PNG; transparent pixels may change."}
    schema["properties"] = {**files, **schema["properties"]}
    schema["required"] = ["image", *schema.get("required", [])]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def sse_schema() -> dict[str, Any]:
    """A server-sent event as an OpenAPI schema; `data` is JSON."""
    text = {"type": "string"}
    return {"type": "object", "properties": {"id": text, "event": text, "data": text}}
