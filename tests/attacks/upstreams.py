"""``python -m tests.attacks.upstreams --port N``: an editor and a thinker that misbehave when the instruction says so.

One tenant's instruction names a fault (`FAULTS`), so that another tenant's edits of the same moment are served. GET /recorded
returns the texts and constraints of the latest critiques.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.attacks import files
from tests.doubles.upstreams import Script, application

BOMB_MIB: Final = 512
SLOW_S: Final = 6.0
CHOICES: Final = 4_000_000
CONSTRAINTS: Final = ("response_format", "guided_regex", "structured_outputs", "guided_json")


@cache
def packed_twice(mib: int = BOMB_MIB) -> bytes:
    """A gzip of a gzip of zeros: some hundred bytes."""
    return gzip.compress(gzip.compress(bytes(1 << 20), mtime=0) * mib, mtime=0)


@cache
def many_choices(count: int = CHOICES) -> bytes:
    """A completion of empty choices, three bytes each."""
    return b'{"object":"chat.completion","choices":[' + b"{}," * count + b"{}]}"


@cache
def large_picture() -> bytes:
    """An editor's answer with a picture of 50 megapixels."""
    return json.dumps({"created": 0, "data": [{"b64_json": base64.b64encode(files.deep_png(kind=2)).decode()}]}).encode()


def _packed() -> Response:
    return Response(packed_twice(), media_type="application/json", headers={"content-encoding": "gzip, gzip"})


def _refused() -> Response:
    error = {"message": "the content was refused", "type": "invalid_request_error", "param": None, "code": "content_filter"}
    return JSONResponse({"error": error}, 400)


EDIT_FAULTS: Final[dict[str, Callable[[], Response]]] = {
    "gzip of gzip": _packed,
    "a picture of 50 megapixels": lambda: Response(large_picture(), media_type="application/json"),
    "an escape": lambda: JSONResponse({"error": {"message": "\x1b]52;c;aGk=\x07\nresult: forged", "code": "invalid_value"}}, 400),
}
CRITIQUE_FAULTS: Final[dict[str, Callable[[], Response]]] = {
    "thinker: gzip of gzip": _packed,
    "thinker: choices": lambda: Response(many_choices(), media_type="application/json"),
    "thinker: content filter": _refused,
}


def _text(critique: dict[str, Any]) -> str:
    parts = [message["content"] for message in critique["messages"]]
    return "\n".join(
        text
        for part in parts
        for text in ([part] if isinstance(part, str) else [piece.get("text", "") for piece in part if isinstance(piece, dict)])
    )


def _fault(faults: dict[str, Callable[[], Response]], text: str) -> Response | None:
    return next((answer() for name, answer in faults.items() if f"[{name}]" in text), None)


def app() -> Starlette:
    """The doubles, with the faults by instruction."""
    script = Script(scores=[(9, 9)])
    script.edit_fault = lambda number: _fault(EDIT_FAULTS, script.edits[number - 1]["prompt"])
    script.critique_fault = lambda number: _fault(CRITIQUE_FAULTS, _text(script.critiques[number - 1]))
    made = application(script)

    async def recorded(_: Request) -> Response:
        latest = script.critiques[-5:]
        found = [{"text": _text(each), "constraints": [name for name in CONSTRAINTS if name in each]} for each in latest]
        return JSONResponse(found)

    made.router.routes.append(Route("/recorded", recorded))
    made.router.routes.append(Mount("/slow", application(Script(edit_delay_s=SLOW_S))))
    return made


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
