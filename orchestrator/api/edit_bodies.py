"""Bodies of requests for an edit: a multipart form, JSON, or a urlencoded form, read into the same `EditForm`."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel
from starlette.datastructures import FormData
from starlette.requests import Request

from orchestrator.api.compatibility import NAMES
from services.errors import ApiError, shown
from services.protocol.images_api import EditForm, form_schema, may_be_picture, read_form, read_json_form
from services.serving.middleware import read_json
from services.serving.multipart import check_charset, open_form

_MULTIPART: Final = "multipart/form-data"
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 100
_COPIES: Final = {_MULTIPART: 1, _URLENCODED: 3}
"""How often a body is in memory while it is read: a urlencoded one as bytes, as text and as values; JSON as bytes and values."""


def memory_factor(request: Request) -> int:
    """Times that the body of a request is in memory while it is read."""
    return _COPIES.get(_kind(request), 2)


async def read_edit_body(request: Request, model: type[BaseModel], *, max_file_bytes: int) -> EditForm:
    """The fields and pictures of a request, pictures behind URLs not yet fetched.

    Args:
        model: the fields that are known.

    Raises:
        ApiError: ``unsupported_media_type`` for another kind of body; for one that cannot be read, what is wrong with it.
    """
    kind = _kind(request)
    if kind == _MULTIPART:
        async with open_form(
            request, max_files=20, max_fields=_MAX_FIELDS, max_file_bytes=max_file_bytes, may_be_picture=may_be_picture
        ) as form:
            return await read_form(form, model)
    if kind == _URLENCODED:
        check_charset(request.headers["content-type"])
        return await read_form(await _urlencoded(request), model)
    if kind == "application/json" or kind.endswith("+json"):
        body = await read_json(request)
        if not isinstance(body, dict):
            raise ApiError("invalid_json", "the body must be a JSON object")
        return read_json_form(body, {*model.model_fields, *NAMES})
    message = (
        f"the body is {shown(kind) or 'of no type'}; send multipart/form-data with a file part `image` and a text field "
        "`prompt`, or application/json with images and prompt"
    )
    raise ApiError("unsupported_media_type", message, param="image")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _urlencoded(request: Request) -> FormData:
    body = b"".join([piece async for piece in request.stream()])
    try:
        # A picture in it takes a while.
        pairs = await asyncio.to_thread(
            parse_qsl, body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except UnicodeDecodeError as exc:
        raise ApiError("invalid_value", "the form's texts must be UTF-8, percent-encoded") from exc
    except ValueError as exc:
        raise ApiError("invalid_value", f"the form has more than {_MAX_FIELDS} fields") from exc
    return FormData([(name, value) for name, value in pairs])


_LINK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["image_url"],
    "properties": {"image_url": {"type": "string", "description": "An https URL, or a data URL."}},
}
_TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "description": "An https URL, a data URL, or base64."}
_TEXTS: Final[dict[str, Any]] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}


def edit_body(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI request body of these routes."""
    body = form_schema(model)
    fields = model.model_json_schema(ref_template="#/components/schemas/{model}")
    fields.pop("$defs", None)
    example = {"prompt": "make it feel like golden hour"}
    links = {"images": {"type": "array", "items": _LINK}, "image": _TEXTS, "image_url": _TEXTS, "url": _TEXTS}
    mask = {"mask": {"anyOf": [_LINK, _TEXT]}}
    as_json = {**fields, "properties": {**links, **mask, **fields["properties"]}}
    as_form = {**fields, "properties": {"url": _TEXT, "image_url": _TEXT, **fields["properties"]}}
    body["content"]["application/json"] = {
        "schema": as_json,
        "example": {**example, "images": [{"image_url": "https://example.com/photo.jpg"}]},
    }
    body["content"][_URLENCODED] = {"schema": as_form, "example": {**example, "url": "https://example.com/photo.jpg"}}
    return body
