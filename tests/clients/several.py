"""A stand-in editor of up to sixteen pictures: the first, warmer, with the others in its corner."""

from __future__ import annotations

import base64
import io

from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def _edits(request: Request) -> Response:
    async with request.form() as form:
        files = [file for name, file in form.multi_items() if name in {"image", "image[]"} and isinstance(file, UploadFile)]
        source, *others = [Image.open(io.BytesIO(await file.read())).convert("RGB") for file in files]
    red, green, blue = source.split()
    edited = Image.merge("RGB", (red.point(lambda level: min(255, level + 25)), green, blue.point(lambda level: level * 3 // 4)))
    for place, other in enumerate(others):
        edited.paste(other.resize((48, 32)), (4 + 52 * place, 4))
    data = io.BytesIO()
    edited.save(data, "PNG")
    return JSONResponse({"created": 0, "data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]})


async def _models(_: Request) -> Response:
    card = {"id": "several", "object": "model", "capabilities": {"images": 16, "mask": False}}
    return JSONResponse({"object": "list", "data": [card]})


def application() -> Starlette:
    """The editor."""
    return Starlette(routes=[Route("/v1/images/edits", _edits, methods=["POST"]), Route("/v1/models", _models)])
