"""Instant stub servers for `benchmarks.overhead`: an editor and a thinker that cost the orchestrator nothing to wait for.

Run as its own process, so that its CPU time is not counted: ``python -m benchmarks.stubs PORT [base64]``. The editor answers with
the same megapixel PNG, encoded once; a prompt that starts with "hold" is answered after ``POST /release``. The thinker is
never satisfied.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.protocol.images_api import RAW_IMAGE


def megapixel() -> bytes:
    """A 1024x1024 PNG that compresses like a photograph (about 1.4 bytes a pixel)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:1024, 0:1024] / 1024.0
    smooth = np.stack([90 + 120 * x, 80 + 100 * y, 100 + 60 * np.sin(6 * x * y)], axis=-1)
    pixels = np.clip(smooth + rng.normal(0, 1.6, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


_CRITIQUE = '<think>too little of it</think><score>{"semantic": 5, "quality": 9}</score><answer>more, step %d</answer>'


def application(*, raw: bool) -> Starlette:
    """Both stubs in one application; `raw`, if the editor answers as our own worker does, and not in base64."""
    picture = megapixel()
    edited = json.dumps({"created": 0, "data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode()
    released = asyncio.Event()
    count = 0

    async def edits(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            if len(body) < 4096:
                body += chunk
        if b"\r\n\r\nhold" in body:
            await released.wait()
        if raw and RAW_IMAGE in request.headers.get("accept", ""):
            return Response(picture, media_type=RAW_IMAGE)
        return Response(edited, media_type="application/json")

    async def completions(request: Request) -> Response:
        nonlocal count
        async for _ in request.stream():
            pass
        count += 1
        message = {"role": "assistant", "content": _CRITIQUE % count}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def release(_: Request) -> Response:
        released.set()
        return Response()

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": []})

    return Starlette(
        routes=[
            Route("/v1/images/edits", edits, methods=["POST"]),
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/release", release, methods=["POST"]),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(application(raw="base64" not in sys.argv[2:]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
