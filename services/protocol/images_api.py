"""The Images API, ``POST /v1/images/edits``, for clients and servers: fields, multipart form, replies, events.

Source: openai-python 3.54 (``types/image_edit_params.py``, ``images_response.py``, ``image_edit_*_event.py``) and
the requests that client sends: a single file is a part named ``image``, a list is repeated ``image[]``. PHP's curl sends a list
as ``image[0]``, ``image[1]`` …
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.errors import MAX_NAME, NOT_AN_OBJECT, OBJECT_EXPECTED, ApiError, reason_of, shown
from services.imaging.codec import OutputFormat

MAX_PROMPT: Final = 32_000
MAX_IMAGES: Final = 16
"""Input pictures of a request, as OpenAI's API has it: the source and its references."""
LORA_SCALES: Final = (-4.0, 4.0)
"""The least and the largest strength of a LoRA; a negative one is the opposite of what it was trained for (sliders)."""
INPUT_FACTOR: Final = 3
"""Bytes of all pictures of a request, its mask included, as a multiple of the most that one of them may have."""
_MAX_FIELDS: Final = 200
"""Fields of a request: more than a form may have, and several times the number there is."""
_IMAGE_NAME: Final = re.compile(r"image(?:\[(?P<number>[0-9]{0,4})\])?")
_LORA_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNFIT: Final = re.compile("[\x00\ud800-\udfff]")
_Model = TypeVar("_Model", bound=BaseModel)
_Picture = TypeVar("_Picture")
_VALIDATOR_NAME: Final = re.compile(r"function-(?:before|after|plain|wrap)\[")
"""Names of validators in the path of a pydantic error, which are not names of the caller's fields."""
SIZE_PATTERN: Final = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"


RAW_IMAGE: Final = "application/vnd.editthinker.image"
"""The media type of a reply that is one picture's bytes, in place of base64 in JSON: for callers whose Accept names it. Servers
that do not know it answer JSON.
"""
RAW_TIMINGS: Final = "x-edit-timings"
"""The header of such a reply that holds the field ``timings`` of the JSON one."""

TRAINED: Final = "x-trained"
"""The header by which a worker tells whether a trained model made its pictures: `true` or `false`. Without it one did."""

SOURCE_KEY: Final = "x-source-key"
"""The header by which a caller names the source of an edit: 64 hexadecimal digits that nobody else can guess. A worker keeps the
source under it, and a later request with the same key may leave the file out; a worker that does not have it answers 412.
"""
SOURCE_KEPT: Final = "x-source-kept"
"""The header, ``true``, with which a worker tells that it keeps the source under the key."""


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


def _lora_name(value: object) -> object:
    if isinstance(value, str) and not _LORA_NAME.fullmatch(value):
        raise ValueError("a registered name has letters, digits, `.`, `_` and `-`; no path or hub id is taken")
    return value


# The validator comes last: before the length, it would hide from pydantic that the length is a string's, in characters.
Prompt = Annotated[str, Field(max_length=MAX_PROMPT, examples=["make it feel like golden hour"]), BeforeValidator(_not_blank)]
NegativePrompt = Annotated[str, Field(max_length=MAX_PROMPT), BeforeValidator(_well_formed)]
"""May be blank."""
LoraName = Annotated[str, Field(max_length=100), BeforeValidator(_lora_name)]
"""The name under which an editor's operator registered a LoRA."""
MetadataKey = Annotated[str, Field(min_length=1, max_length=64), BeforeValidator(_well_formed)]
MetadataValue = Annotated[str, Field(max_length=512), BeforeValidator(_well_formed)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""A caller's own pairs, with the limits that OpenAI's API has."""


Quality = Literal["auto", "low", "medium", "high", "standard", "xhigh", "max"]
"""``standard`` is a former name of ``auto``."""
Background = Literal["auto", "opaque", "transparent"]


class EditFields(BaseModel):
    """OpenAI's own fields of an edit request, without its files. Services add theirs by subclassing.

    A service narrows those that it cannot honour to their neutral value: a parameter that cannot be honoured is never ignored.
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
    quality: Quality | None = Field(None, description="How much is tried: `low`, `medium`, `high`, or `auto`.")
    background: Background | None = Field(None, description="`auto`, `opaque`, or `transparent`.")

    def pixels(self) -> tuple[int, int] | None:
        """`size` as (width, height), or None for ``auto``."""
        return pixels_of(self.size)


class ImageData(BaseModel):
    """One returned image; the official client keeps unknown keys, so services may add their own."""

    model_config = ConfigDict(extra="allow")

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class InputTokens(BaseModel):
    """Tokens that a model read."""

    image_tokens: int
    text_tokens: int
    cached_tokens: int = 0


class OutputTokens(BaseModel):
    """Tokens that a model wrote."""

    image_tokens: int
    text_tokens: int


class ImagesUsage(BaseModel):
    """OpenAI's usage of an edit; `image_count` is the number of images that were made for it."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputTokens = InputTokens(image_tokens=0, text_tokens=0)
    output_tokens_details: OutputTokens = OutputTokens(image_tokens=0, text_tokens=0)
    image_count: int = 0


class ImagesResponse(BaseModel):
    """The reply of an edit request."""

    model_config = ConfigDict(extra="allow")

    created: int
    data: list[ImageData]
    output_format: OutputFormat | None = None
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    usage: ImagesUsage | None = None


class _Upload(Protocol):
    @property
    def filename(self) -> str | None: ...

    async def read(self, size: int = -1) -> bytes: ...


class _Form(Protocol):
    def multi_items(self) -> list[tuple[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class EditForm:
    """A received request: its fields by name, and the pictures as bytes, or as texts that are still to be read.

    Attributes:
        images: in the order sent; a text is an https URL, a data URL or base64.
        mask: likewise.
    """

    fields: dict[str, Any]
    images: tuple[bytes | str, ...]
    mask: bytes | str | None


_URL_NAMES: Final = frozenset({"url", "url[]", "image_url", "image_url[]"})
"""vLLM-Omni's and SGLang's names for pictures by URL."""


def may_be_picture(name: str) -> bool:
    """Whether a field of a form may hold a picture as text."""
    return name == "mask" or name in _URL_NAMES or _IMAGE_NAME.fullmatch(name) is not None


async def read_form(form: _Form, model: type[BaseModel] | None = None) -> EditForm:
    """Read Starlette's form data: repeated ``image``, ``image[]`` and ``image[0]``, ``image[1]`` … are the same list, as are the
    names of URLs.

    Numbered pictures come in the order of their numbers, after those without one; others in the order in which they were sent.

    Args:
        model: the text fields that are known, for messages.

    Raises:
        ApiError: ``invalid_value`` when a text field is given twice or as a file, or a file as text.
    """
    fields: dict[str, Any] = {}
    images = _NumberedImages()
    mask: bytes | str | None = None
    for name, value in form.multi_items():
        is_file = not isinstance(value, str)
        if is_file and not value.filename and not await _filled(value):
            # An optional file input that was left empty: browsers send it without a name and without content.
            continue
        if _IMAGE_NAME.fullmatch(name):
            images.add(name, await _picture(value, "image"))
        elif name in _URL_NAMES and not is_file:
            images.add("image", _url(value, name))
        elif name == "mask" and mask is not None:
            raise ApiError("invalid_value", "mask was given more than once; send it once", param="mask")
        elif name == "mask":
            mask = await _picture(value, "mask")
        elif is_file:
            raise _misplaced(name, model)
        elif name in fields:
            raise ApiError("invalid_value", f"{shown(name)} was given more than once; send it once", param=name)
        else:
            fields[name] = value
    return EditForm(fields, images.in_order(), mask)


class _NumberedImages:
    """The images of a form, by the numbers in their names."""

    def __init__(self) -> None:
        self._images: list[tuple[int, bytes | str]] = []

    def add(self, name: str, image: bytes | str) -> None:
        """Add one; raises `ApiError` for a number that was given before."""
        found = _IMAGE_NAME.fullmatch(name)
        number = int(found["number"]) if found and found["number"] else -1
        if number >= 0 and any(number == other for other, _ in self._images):
            raise ApiError("invalid_value", f"{name} was given more than once; number each picture once", param="image")
        self._images.append((number, image))

    def in_order(self) -> tuple[bytes | str, ...]:
        """Those without a number in the order sent, then the others by their numbers."""
        return tuple(image for _, image in sorted(self._images, key=lambda each: each[0]))


async def _filled(value: _Upload) -> bool:
    size = getattr(value, "size", None)
    if size is not None:
        return bool(size)
    data = await value.read()
    await value.seek(0)  # type: ignore[attr-defined]  # Starlette's
    return bool(data)


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("data:", "https://", "http://"))


def _url(text: str, name: str) -> str:
    if not _is_url(text):
        message = (
            f"{name} is not the URL of a picture; send it as an https URL or a data URL, or the picture as the file part image"
        )
        raise ApiError("invalid_value", message, param=name)
    return text


def _misplaced(name: str, model: type[BaseModel] | None) -> ApiError:
    """The refusal of a file under a name that takes none."""
    if name in (model or EditFields).model_fields:
        return ApiError("invalid_value", f"{shown(name)} was sent as a file; send it as a text field", param=name)
    message = f"{shown(name)} was sent as a file, and files are taken as image and mask; send the picture as the file part image"
    return ApiError("invalid_value", message, param=name)


def source_and_references(images: Sequence[_Picture]) -> tuple[_Picture, tuple[_Picture, ...]]:
    """The pictures of a request: the first is the source, the others are its references.

    Raises:
        ApiError: when there is none, or more than `MAX_IMAGES`.
    """
    if not images:
        message = (
            "image is missing; send the picture to edit as the file part `image` of a form, "
            'or in JSON as images: [{"image_url": "https://…"}]'
        )
        raise ApiError("missing_parameter", message, param="image")
    if len(images) > MAX_IMAGES:
        message = f"image was given {len(images)} times; send at most {MAX_IMAGES}: the source, and its references"
        raise ApiError("invalid_value", message, param="image")
    return images[0], tuple(images[1:])


_TAKES_PICTURES: Final = "https URL, a data URL or base64"


def read_json_form(body: Mapping[str, Any], names: Collection[str]) -> EditForm:
    """Read a JSON request: OpenAI's ``images: [{"image_url": …}]``, or the names of a form with texts or lists of texts.

    Args:
        names: fields for which null is their absence, as in OpenAI's API.

    Raises:
        ApiError: ``invalid_value`` naming the picture that cannot be read.
    """
    rest = {name: value for name, value in body.items() if value is not None or name not in {*names, "image", "images", "mask"}}
    texts: list[str] = []
    for name in ("image", "images", "image_url", "url"):
        value = rest.pop(name, None)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        texts += [_picture_text(each, name) for each in listed]
    mask = rest.pop("mask", None)
    return EditForm(rest, tuple(texts), None if mask is None else _picture_text(mask, "mask"))


def _picture_text(value: object, name: str) -> str:
    """A picture in JSON: a text, or an object that has it as ``image_url`` (as chat completions do: with a ``url`` inside)."""
    if isinstance(value, Mapping) and "file_id" in value:
        raise ApiError("invalid_value", f"{name}: this server stores no files; send image_url in place of file_id", param=name)
    for key in ("image_url", "url"):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
    if not isinstance(value, str) or not value:
        message = f'{name}: send an {_TAKES_PICTURES} as text, or {{"image_url": …}} with one'
        raise ApiError("invalid_value", message, param=name)
    return value


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


async def _picture(value: _Upload | str, name: str) -> bytes | str:
    if isinstance(value, str) and _is_url(value):
        return value
    if isinstance(value, str):
        message = f'{name} was sent as text; send it as a file part of multipart/form-data, which has a filename="photo.png"'
        raise ApiError("invalid_value", message, param=name)
    return await value.read()


def form_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI request body of an edit form whose text fields are `model`'s."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    one = {"type": "string", "format": "binary"}
    several = {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_IMAGES}
    description = "PNG, JPEG or WebP: the source; repeated, or as image[], the source and then its references."
    files = {
        "image": {"anyOf": [one, several], "description": description},
        "mask": {**one, "description": "PNG of the source's size; transparent pixels may change."},
    }
    schema["properties"] = {**files, **schema["properties"]}
    schema["required"] = ["image", *schema.get("required", [])]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def sse_schema() -> dict[str, Any]:
    """A server-sent event as an OpenAPI schema; `data` is JSON."""
    text = {"type": "string"}
    return {"type": "object", "properties": {"id": text, "event": text, "data": text}}
