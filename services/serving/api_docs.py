"""``/docs``: the interactive page of the OpenAPI document, from files of this package, under a strict content security policy."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from services.errors import ApiError

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI's stylesheet has its icons as data URLs."""
_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
_START: Final = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null});\n'
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""


def install(app: FastAPI) -> None:
    """Add the page and its files."""
    router = APIRouter(include_in_schema=False)
    page = _PAGE.format(title=html.escape(app.title))

    @router.get("/docs")
    async def docs() -> Response:
        return _response(page, "text/html; charset=utf-8", cache="no-cache")

    @router.get("/docs/start.js")
    async def start() -> Response:
        return _response(_START, _TYPES["swagger-ui-bundle.js"])

    @router.get("/docs/{name}")
    async def asset(name: str) -> Response:
        if name not in _TYPES:
            raise ApiError("not_found", "there is no such file")
        return _response(files("services.serving").joinpath("swagger_ui", name).read_bytes(), _TYPES[name])

    app.include_router(router)


def _response(content: str | bytes, media_type: str, *, cache: str = "public, max-age=3600") -> Response:
    headers = {"content-security-policy": _POLICY, "cache-control": cache}
    return Response(content, headers=headers, media_type=media_type)
