"""Instant stub servers for `benchmarks.overhead`: an editor and a thinker that cost the orchestrator nothing to wait for.

Run as its own process, so that its CPU time is not counted: ``python -m benchmarks.stubs PORT [PICTURE [base64]]``. The editor
answers with the same picture and a comment that makes its bytes others each time, as an editor's are; a prompt that starts with
"hold" is answered after ``POST /release``. The thinker is never satisfied.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import struct
import sys
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.protocol.images_api import RAW_IMAGE, SOURCE_KEPT, SOURCE_KEY


@dataclass(frozen=True, slots=True)
class PictureKind:
    """A picture that is measured: its side in pixels, its format, and the noise that decides how well a PNG compresses."""

    side: int
    format: str = "PNG"
    noise: float = 1.6


PICTURES: Final = {
    "png": PictureKind(1024),
    "jpeg": PictureKind(1024, "JPEG"),
    "small": PictureKind(256),
    "2mb": PictureKind(1024, noise=5.2),
}


def picture(name: str = "png") -> bytes:
    """A picture that compresses like a photograph: a megapixel has 1.3 MB as PNG."""
    kind = PICTURES[name]
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0 : kind.side, 0 : kind.side] / kind.side
    smooth = np.stack([90 + 120 * x, 80 + 100 * y, 100 + 60 * np.sin(6 * x * y)], axis=-1)
    pixels = np.clip(smooth + rng.normal(0, kind.noise, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    more = {"compress_level": 6} if kind.format == "PNG" else {"quality": 92}
    Image.fromarray(pixels).save(buffer, kind.format, **more)
    return buffer.getvalue()


def with_comment(data: bytes, text: str) -> bytes:
    """The PNG or JPEG with a comment: other bytes, the same pixels."""
    if data.startswith(b"\x89PNG"):
        content = b"tEXtComment\x00" + text.encode()
        chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
        return data[:33] + chunk + data[33:]  # after IHDR
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text.encode() + data[2:]


_CRITIQUE = '<think>too little of it</think><score>{"semantic": 5, "quality": 9}</score><answer>more, step %d</answer>'
_CRITIQUES: Final = itertools.count(1)


async def _models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": []})


async def _completion(request: Request) -> Response:
    async for _ in request.stream():
        pass
    message = {"role": "assistant", "content": _CRITIQUE % next(_CRITIQUES)}
    return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def application(name: str = "png", *, raw: bool = True) -> Starlette:
    """Both stubs in one application; `raw`, if the editor answers as our own worker does, and not in base64."""
    original = picture(name)
    released = asyncio.Event()
    kept: set[str] = set()
    edits_made = itertools.count(1)

    async def edits(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            if len(body) < 4096:
                body += chunk
        key = request.headers.get(SOURCE_KEY, "")
        if b'name="image"' in body:
            kept.add(key)
        elif key not in kept:
            return JSONResponse({"error": {"message": "no source is kept under this key"}}, 412)
        if b"\r\n\r\nhold" in body:
            await released.wait()
        edited = with_comment(original, f"edit {next(edits_made)}")
        if raw and RAW_IMAGE in request.headers.get("accept", ""):
            return Response(edited, media_type=RAW_IMAGE, headers={SOURCE_KEPT: "true"} if key else {})
        return JSONResponse({"created": 0, "data": [{"b64_json": base64.b64encode(edited).decode(), "unchanged": False}]})

    async def release(_: Request) -> Response:
        released.set()
        return Response()

    return Starlette(
        routes=[
            Route("/v1/images/edits", edits, methods=["POST"]),
            Route("/v1/chat/completions", _completion, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/release", release, methods=["POST"]),
        ]
    )


if __name__ == "__main__":
    made = application(sys.argv[2] if len(sys.argv) > 2 else "png", raw="base64" not in sys.argv[3:])
    uvicorn.run(made, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
