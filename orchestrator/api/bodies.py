"""JSON bodies that are read after authentication: FastAPI would read a body of any size before it runs the dependencies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from services.errors import ApiError
from services.protocol.images_api import validate
from services.serving.middleware import read_json

_Model = TypeVar("_Model", bound=BaseModel)
_MAX_BYTES: Final = 1024 * 1024
"""Of bodies without an image; the longest instruction, every character as an escape, has less than 400 kB."""


def read_as(model: type[_Model]) -> Callable[[Request], Awaitable[_Model]]:
    """A dependency that reads the body; list it after the one that authenticates."""

    async def read(request: Request) -> _Model:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise ApiError("invalid_value", "the body must be JSON; send it as application/json")
        return validate(model, await read_json(request, max_bytes=_MAX_BYTES))

    return read


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of such a body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
