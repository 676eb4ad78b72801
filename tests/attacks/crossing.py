"""Two tenants on kept connections, with offers of other protocols, cut and late bodies: whose answer is whose?

cross(target, port, requests)      sends them, and returns what was counted and every answer that belongs to another request
proxied(target, folder, mode)      the port to send to: direct, or behind a real nginx or HAProxy
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.attacks.target import TENANTS, Target, target
from tests.doubles.haproxy import haproxy_binary
from tests.doubles.nginx import nginx
from tests.doubles.processes import free_port, start, wait_ready
from tests.doubles.upstreams import picture

MODES = ("direct", "nginx, buffered", "nginx, unbuffered", "HAProxy")
CONNECTIONS = 8
"""Of each tenant."""
OFFERS = (
    "",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: foo/1\r\n",
)
_HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
listen orchestrator
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{upstream}
"""


@dataclass
class Crossing:
    """What was observed.

    Attributes:
        crossed: answers that were another request's, or no answer of ours.
    """

    answered: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    crossed: list[str] = field(default_factory=list)


@contextlib.contextmanager
def proxied(running: Target, folder: Path, mode: str) -> Iterator[int]:
    """The port of the orchestrator, or of a proxy in front of it."""
    upstream = running.process.port
    if mode == "direct":
        yield upstream
    elif mode == "HAProxy":
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(port=port, upstream=upstream))
        process = start([haproxy_binary(), "-db", "-f", str(config)], port, folder / "haproxy.log")
        try:
            wait_ready(process, "/healthz")
            yield port
        finally:
            process.stop()
    else:
        with nginx(folder, upstream, buffering=mode == "nginx, buffered") as process:
            yield process.port


def cross(running: Target, port: int, requests: int, *, seed: int = 0) -> Crossing:
    """Send so many requests, of both tenants at the same time."""
    sources: dict[str, tuple[str, bytes]] = {}
    for number, tenant in enumerate(TENANTS):
        image = picture(40 + number, 30, 50 + number)
        with running.client(tenant) as client:
            fields = {"image": base64.b64encode(image).decode(), "prompt": f"of {tenant}", "max_turns": 1}
            session = client.post("/v1/sessions", json=fields).json()
            stored = client.get(f"/v1/sessions/{session['id']}/source").content
            sources[tenant] = (session["id"], stored)
    seen = Crossing()

    async def run() -> None:
        share = requests // (len(TENANTS) * CONNECTIONS)
        async with asyncio.TaskGroup() as group:
            for tenant in TENANTS:
                for number in range(CONNECTIONS):
                    caller = _Caller(running, port, tenant, sources[tenant], random.Random(f"{seed} {tenant} {number}"), seen)
                    group.create_task(caller.send(share, f"{tenant}-{number}"))

    asyncio.run(run())
    return seen


class _Caller:
    """One kept connection of a tenant; it is opened again where it was cut or closed."""

    def __init__(
        self, running: Target, port: int, tenant: str, source: tuple[str, bytes], dice: random.Random, seen: Crossing
    ) -> None:
        self.key = running.keys[tenant]
        self.port = port
        self.session_id, self.image = source
        self.dice = dice
        self.seen = seen

    async def send(self, requests: int, name: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for number in range(requests):
            tag = f"tag-{name}-{number}"
            head, body, expected = self._request(tag)
            cut = body and self.dice.random() < 0.05
            late = body and self.dice.random() < 0.3
            writer.write(head)
            if late or cut:
                await writer.drain()
                await asyncio.sleep(0.002)
            if cut:
                writer.write(body[: len(body) // 2])
                self.seen.cut += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                continue
            writer.write(body)
            async with asyncio.timeout(60):
                status, headers, answer = await _answer(reader)
            wanted = expected if isinstance(expected, bytes) else expected.encode()
            if answer.startswith(b"<html>") and headers.get("connection") == "close":
                # HAProxy takes WebSocket offers with GET only, and answers others itself.
                self.seen.answered["refused by the proxy"] += 1
            else:
                self.seen.answered[str(status)] += 1
                told = status in {429, 503} and b'"error"' in answer
                if headers.get("x-request-id") != tag or (wanted not in answer and not told):
                    self.seen.crossed.append(f"{tag}: {status} {headers.get('x-request-id')} {answer[:200]!r}")
            if headers.get("connection") == "close":
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()

    def _request(self, tag: str) -> tuple[bytes, bytes, bytes | str]:
        """Head, body, and what its answer has in it."""
        common = f"Host: a\r\nAuthorization: Bearer {self.key}\r\nX-Request-Id: {tag}\r\n{self.dice.choice(OFFERS)}"
        kind = self.dice.choices(("source", "unknown", "missing", "inner", "create"), (30, 30, 20, 18, 2))[0]
        if kind == "source":
            return f"GET /v1/sessions/{self.session_id}/source HTTP/1.1\r\n{common}\r\n".encode(), b"", self.image
        if kind == "missing":
            return f"GET /v1/sessions/{tag} HTTP/1.1\r\n{common}\r\n".encode(), b"", tag
        path, mime = "/v1/sessions", "application/json"
        image = base64.b64encode(self.image).decode()
        if kind == "inner":
            # A body that is a request of its own, for a server that takes it for one.
            path, mime = "/v1/images/edits", f"multipart/form-data; boundary={tag}"
            inner = f"GET /v1/sessions/{self.session_id} HTTP/1.1\r\n{common}\r\n"
            body = f'--{tag}\r\nContent-Disposition: form-data; name="{tag}"\r\n\r\n{inner}\r\n--{tag}--\r\n'.encode()
            expected = ""
        elif kind == "unknown":
            body = json.dumps({"image": image, "prompt": "x", tag: 1}).encode()
            expected = tag
        else:
            body = json.dumps({"image": image, "prompt": f"{tag} warmer", "max_turns": 1}).encode()
            expected = f"{tag} warmer"
        chunked = self.dice.random() < 0.3
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        if chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return f"POST {path} HTTP/1.1\r\n{common}Content-Type: {mime}\r\n{length}\r\n\r\n".encode(), body, expected


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split(" ")[1]), headers, body


HEADER = "| between | answers | cut by the caller | answers to another request | took |\n|---|---|---|---|---|\n"
REQUESTS = 10_000
"""Of both tenants, in each mode."""


def report(requests: int) -> int:
    """Print a line for each mode, and on stderr what crossed; returns in how many modes something did."""
    failed = 0
    sys.stdout.write(HEADER)
    with tempfile.TemporaryDirectory() as folder, target(Path(folder), EDITTHINKER_MAX_UNFINISHED="100000") as running:
        for mode in MODES:
            began = time.monotonic()
            with proxied(running, Path(folder) / mode.replace(", ", "-"), mode) as port:
                seen = cross(running, port, requests)
            statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(seen.answered.items()))
            row = f"| {mode} | {statuses} | {seen.cut:,} | {len(seen.crossed)} | {time.monotonic() - began:.0f} s |"
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
            for answer in seen.crossed[:5]:
                sys.stderr.write(f"{answer}\n")
            failed += bool(seen.crossed)
    return failed


def main() -> int:
    """``python -m tests.attacks.crossing [REQUESTS]``."""
    return 1 if report(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS) else 0


if __name__ == "__main__":
    raise SystemExit(main())
