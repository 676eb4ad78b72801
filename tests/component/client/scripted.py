"""A real HTTP server on loopback that answers from a script, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What to answer. ``drop`` closes the connection without an answer; ``cut`` closes it inside the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    cut: bool = False
    hold: threading.Event | None = None


Script = Callable[[Asked], Answer]


def as_json(body: object, status: int = 200, **headers: str) -> Answer:
    """A JSON answer; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/json", **named})


def error(status: int, code: str, message: str = "no", param: str | None = None, **headers: str) -> Answer:
    """An error in the API's shape."""
    body = {"error": {"message": message, "type": "x", "param": param, "code": code}}
    return as_json(body, status, x_request_id="req_1", **headers)


def stream(events: Sequence[Mapping[str, Any]], *, cut: bool = False, tail: bytes = b"") -> Answer:
    """An event stream that closes after the given events, or is cut after them, inside ``tail``."""
    body = b": connected\n\n"
    for event in events:
        body += f"id: {event['seq']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    return Answer(200, body + tail, {"content-type": "text/event-stream"}, cut=cut)


def session(status: str = "succeeded", **more: Any) -> dict[str, Any]:
    """A session as the API shows it."""
    best = {"turn": 1, "candidate": 1} if status == "succeeded" else None
    return {
        "id": "ses_1", "object": "session", "status": status, "instruction": "golden hour", "editor": "classical",
        "best": best, "last_event": 7, "unheard_of": {"new": True}, **more,
    }  # fmt: skip


EVENTS: list[dict[str, Any]] = [
    {"seq": 1, "type": "session_created", "at": 1.0},
    {"seq": 2, "type": "turn_started", "turn": 1, "instruction": "golden hour", "author": "caller", "candidates": 1},
    {"seq": 3, "type": "edit_started", "turn": 1, "candidate": 1, "seed": 5},
    {"seq": 4, "type": "edited", "turn": 1, "candidate": 1},
    {"seq": 5, "type": "critiqued", "turn": 1, "candidate": 1, "semantic": 9.0, "quality": 4.0, "reasoning": "dé\njà"},
    {"seq": 6, "type": "from_the_future", "what": [1, 2]},
    {"seq": 7, "type": "finished", "reason": "satisfied", "best": {"turn": 1, "candidate": 1}},
]


class Scripted:
    """The server's address, and the requests it got."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.asked: list[Asked] = []

    def paths(self) -> list[str]:
        """Method and path of every request."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """Serve a script while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            here.asked.append(asked)
            answer = script(asked)
            if answer.hold is not None:
                answer.hold.wait(10)
            self.close_connection = answer.drop or answer.cut
            if answer.drop:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            # Longer than what follows, when the answer is to break off.
            self.send_header("content-length", str(len(answer.body) + (100 if answer.cut else 0)))
            with suppress(ConnectionError):
                self.end_headers()
            # A client that gave up in the meantime is part of some scripts.
            with suppress(ConnectionError):
                self.wfile.write(answer.body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here = Scripted(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def in_turn(*answers: Answer) -> Script:
    """Answers in order; the last one is repeated."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
