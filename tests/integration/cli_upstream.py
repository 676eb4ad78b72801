"""A stand-in for an editor and a thinker in one: gives the source back as if it were edited, and likes it better each time.

Run as a script: ``cli_upstream.py PORT``. The instruction steers it: "fail" fails every edit, "slowly" takes its time, "nothing"
is told to be the source.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEMANTIC = (4, 7, 9)


class Handler(BaseHTTPRequestHandler):
    """Both protocols."""

    protocol_version = "HTTP/1.1"
    critiques = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._reply(200, {"object": "list", "data": [{"id": "rules", "capabilities": {"images": 3, "mask": True}}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/images/edits"):
            self._edit(body)
        else:
            self._critique(json.loads(body))

    def _edit(self, body: bytes) -> None:
        form = message_from_bytes(b"content-type: " + self.headers["content-type"].encode() + b"\r\n\r\n" + body)
        parts = [(_name(part), part.get_payload(decode=True)) for part in form.walk() if not part.is_multipart()]
        prompt = dict(parts)["prompt"]
        image = next(data for name, data in parts if name in {"image", "image[]"})
        assert isinstance(prompt, bytes)
        assert isinstance(image, bytes)
        if b"fail" in prompt:
            error = {"message": "I refuse", "type": "invalid_request_error", "param": "prompt", "code": "content_refused"}
            self._reply(400, {"error": error})
            return
        sys.stderr.write("editing\n")
        if b"slowly" in prompt:
            threading.Event().wait(120)
        type(self).critiques = self.critiques if b"then" in prompt else 0
        edited = {"b64_json": base64.b64encode(image).decode(), "unchanged": b"nothing" in prompt}
        self._reply(200, {"created": 1, "data": [edited], "not_understood": ["nothing"] if edited["unchanged"] else []})

    def _critique(self, body: dict[str, object]) -> None:
        semantic = SEMANTIC[min(self.critiques, len(SEMANTIC) - 1)]
        type(self).critiques += 1
        scores = json.dumps({"semantic": semantic, "quality": 9})
        reply = f"<think>It is <b>not</b> & warm enough.</think><score>{scores}</score><answer>golden, then warmer</answer>"
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._reply(200, {"id": "c", "object": "chat.completion", "model": body["model"], "choices": [choice]})

    def _reply(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _name(part: Message) -> str:
    return str(part.get_param("name", header="content-disposition"))


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever()
