"""A judge behind real HTTP: OpenAI's chat completions, with replies by a function of the question's text."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatJudge:
    """What it was asked, and what it says.

    Attributes:
        says: the reply to a question, by its text and its number from 1; or an HTTP status.
        asked: the bodies of the requests.
        authorizations: the header of each request; None without one.
    """

    says: Callable[[str, int], str | int]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    @staticmethod
    def pictures(body: dict[str, Any]) -> list[str]:
        """The data URLs of a request."""
        return [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]


@contextmanager
def chat_judge(says: Callable[[str, int], str | int]) -> Iterator[ChatJudge]:
    """The judge, while the block runs."""
    judge, lock = ChatJudge(says), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                judge.asked.append(body)
                judge.authorizations.append(self.headers["authorization"])
                number = len(judge.asked)
            said = judge.says(body["messages"][0]["content"][0]["text"], number)
            status = said if isinstance(said, int) else 200
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            whole = {"error": {"message": "no"}} if isinstance(said, int) else {"choices": [choice], "usage": usage}
            data = json.dumps(whole).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
