"""A scriptable editor and thinker behind real HTTP, for faults and for answers at a known moment.

The editor paints its seed and the instruction's length into the source, so that every candidate differs. The thinker
answers `scores` turn by turn, and refines "x" to "x +". What they do is set by assigning to the attributes of
`Script`; every request is kept in `edits` and `critiques`, the former with the bytes of its pictures in `sent`.

The same editor is there twice: at /editor/v1, which takes one picture, and at /several/v1, whose list of models says that it
takes sixteen and a mask. It paints outside the mask too.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique, CritiqueRequest, read
from services.protocol.critique.prompts import Template
from tests.doubles.processes import free_port
from tests.doubles.waiting import wait


@dataclass
class Script:
    """What the doubles do, and what they were asked."""

    scores: list[tuple[float, float]] = field(default_factory=lambda: [(3, 9), (6, 9), (9, 9)])
    scored: Callable[[CritiqueRequest], tuple[float, float]] | None = None
    """The scores of /thinker/v1 by what it is shown, instead of `scores`."""
    edit_fault: Callable[[int], Response | None] = lambda _: None
    critique_fault: Callable[[int], Response | None] = lambda _: None
    edit_delay_s: float = 0.0
    hold_edit: int | None = None
    """The number (from 1) of the edit that waits until `release` is set."""
    hold_every: bool = False
    """Every edit waits until `release` is set."""
    release: threading.Event = field(default_factory=threading.Event)
    edits: list[dict[str, Any]] = field(default_factory=list)
    sent: list[list[tuple[str, bytes]]] = field(default_factory=list)
    """Of each edit, its files as (name of the part, bytes), in their order."""
    critiques: list[dict[str, Any]] = field(default_factory=list)
    judged: list[dict[str, Any]] = field(default_factory=list)
    """Requests for scores at /judge/v1, which are answered by `scores` in turn, without an instruction."""
    winner: Callable[[bytes, bytes], str] = lambda *_: "tie"
    """Of two pictures as /pairs/v1 is shown them: ``A``, ``B`` or ``tie``."""
    pairs: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, Any]] = field(default_factory=list)
    """Requests for scores at /heads/v1, which are answered by `scores` in turn."""
    disconnected: int = 0

    def begin(self) -> None:
        """Reset everything, and release held requests."""
        self.release.set()
        fresh = Script()
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))


def picture(width: int = 32, height: int = 24, shade: int = 90) -> bytes:
    """A small PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 120, 60)).save(buffer, "PNG")
    return buffer.getvalue()


def application(script: Script) -> Starlette:
    """Both doubles as one application: /editor/v1 and /thinker/v1."""

    async def edits(request: Request) -> Response:
        async with request.form() as form:
            fields: dict[str, Any] = {key: value for key, value in form.items() if isinstance(value, str)}
            files = [(name, await file.read()) for name, file in form.multi_items() if not isinstance(file, str)]
            source = files[0][1]
        fields["key"] = request.headers.get("idempotency-key", "")
        fields["authorization"] = request.headers.get("authorization", "")
        script.edits.append(fields)
        script.sent.append(files)
        number = len(script.edits)
        if (script.hold_every or script.hold_edit == number) and not await _held(request, script):
            script.disconnected += 1
            return Response(status_code=499)
        await asyncio.sleep(script.edit_delay_s)
        if fault := script.edit_fault(number):
            return fault
        image = Image.open(io.BytesIO(source)).convert("RGB")
        image.putpixel((0, 0), (int(fields.get("seed", 0)) % 256, len(fields["prompt"]) % 256, number % 256))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        # As our workers do; other editors' pictures are decoded and compared.
        edited = {"b64_json": base64.b64encode(buffer.getvalue()).decode(), "unchanged": False}
        body = {"created": 0, "data": [edited]}
        return JSONResponse(body)

    async def completions(request: Request) -> Response:
        body = await request.json()
        script.critiques.append(body)
        number = len(script.critiques)
        if fault := script.critique_fault(number):
            return fault
        asked = read(body["messages"], [Template.named("editthinker")])
        in_turn = script.scores[min(number, len(script.scores)) - 1]
        semantic, quality = in_turn if script.scored is None else script.scored(asked)
        critique = Critique(semantic, quality, f"critique {number}", f"{asked.turn_instruction} +")
        message = {"role": "assistant", "content": FORMATS["editthinker"].bind().render(critique)}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

    async def judge(request: Request) -> Response:
        body = await request.json()
        script.judged.append(body)
        number = len(script.judged)
        semantic, quality = script.scores[min(number, len(script.scores)) - 1]
        critique = Critique(semantic, quality, f"judgement {number}", "the judge's own idea")
        message = {"role": "assistant", "content": FORMATS["json_schema"].bind().render(critique)}
        usage = {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

    async def pairs(request: Request) -> Response:
        body = await request.json()
        script.pairs.append(body)
        urls = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
        winner = script.winner(*(base64.b64decode(url.partition(",")[2]) for url in urls[-2:]))
        message = {"role": "assistant", "content": json.dumps({"winner": winner})}
        usage = {"prompt_tokens": 30, "completion_tokens": 3, "total_tokens": 33}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

    async def heads(request: Request) -> Response:
        script.heads.append(await request.json())
        semantic, quality = script.scores[min(len(script.heads), len(script.scores)) - 1]
        return JSONResponse({"semantic": semantic, "quality": quality})

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": []})

    async def several(_: Request) -> Response:
        card = {"id": "several", "object": "model", "capabilities": {"images": 16, "mask": True}}
        return JSONResponse({"object": "list", "data": [card]})

    routes = [
        Route("/several/v1/images/edits", edits, methods=["POST"]),
        Route("/several/v1/models", several),
        Route("/editor/v1/images/edits", edits, methods=["POST"]),
        Route("/thinker/v1/chat/completions", completions, methods=["POST"]),
        Route("/editor/v1/models", models),
        Route("/thinker/v1/models", models),
        Route("/judge/v1/chat/completions", judge, methods=["POST"]),
        Route("/judge/v1/models", models),
        Route("/pairs/v1/chat/completions", pairs, methods=["POST"]),
        Route("/pairs/v1/models", models),
        Route("/heads/v1/scores", heads, methods=["POST"]),
        Route("/heads/v1/models", models),
    ]
    return Starlette(routes=routes)


async def _held(request: Request, script: Script) -> bool:
    """Wait for the release; False when the caller left first."""
    release = script.release
    while not release.is_set():
        if await request.is_disconnected():
            return False
        await asyncio.sleep(0.01)
    return True


@contextmanager
def serving(app: Any, lifespan: Literal["on", "off"] = "off") -> Iterator[str]:
    """An ASGI application on a free port, in a thread of this process; its base URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan=lifespan))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
