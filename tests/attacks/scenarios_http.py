"""Scenarios of the HTTP layer: offers, long members, abandoned work, unread replies, endless uploads, open streams."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from functools import cache
from typing import Final

import httpx
from PIL import Image

from tests.attacks.arena import MIB, READER, Arena, Outcome
from tests.attacks.scenario import Bound, Scenario
from tests.doubles.upstreams import picture

IMAGE: Final = picture()
TEXT: Final = base64.b64encode(IMAGE).decode()
OFFERS: Final = ("h2c", "TLS/1.0", "websocket", "foo/1", "h2c, websocket")
SESSIONS: Final = "/v1/sessions"


@cache
def noise(width: int = 1600, height: int = 1200) -> bytes:
    """A PNG that does not compress."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(3 * width * height)).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def form(image: bytes = IMAGE, **fields: str) -> bytes:
    """A multipart form with the boundary b."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()
    ]
    parts.append(b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + image + b"\r\n")
    return b"".join([*parts, b"--b--\r\n"])


def session_of(place: Arena, image: bytes, **fields: str) -> str:
    """A finished session with that source."""
    with place.client() as client:
        data = {"prompt": "warmer", "max_turns": "1", **fields}
        reply = client.post(SESSIONS, files={"image": ("a.png", image)}, data=data, headers={"prefer": "wait=60"})
        reply.raise_for_status()
        return str(reply.json()["id"])


def replies(connection: socket.socket, count: int, seconds: float = 10) -> list[int]:
    """The statuses of the next answers of a connection; fewer if it closes, or none comes."""
    connection.settimeout(seconds)
    statuses: list[int] = []
    with contextlib.suppress(OSError), connection.makefile("rb") as file:
        while len(statuses) < count and (line := file.readline()):
            if not line.startswith(b"HTTP/1.1 "):
                statuses.append(-1)
                break
            status, length, chunked = int(line[9:12]), 0, False
            while (header := file.readline().strip().lower()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name == b"content-length" else length
                chunked = chunked or (name == b"transfer-encoding" and b"chunked" in value)
            if status != 100:
                statuses.append(status)
            while chunked and (size := int(file.readline(), 16)):
                file.read(size + 2)
            if chunked:
                file.readline()
            file.read(length)
    return statuses


def offers(place: Arena, outcome: Outcome) -> None:
    """Requests that offer another protocol: each is served, its body is its own, and the next request is answered next."""
    body = form(prompt="warmer", max_turns="1")
    kind = "content-type: multipart/form-data; boundary=b"
    hidden = place.head(f"GET {SESSIONS}/hidden")
    chat = json.dumps({"model": "rules", "messages": [{"role": "user", "content": "hello"}]}).encode()
    edit = form(prompt="brighter")
    requests = {
        "orchestrator": [("/v1/images/edits", kind, body, {200}), (SESSIONS, kind, body, {202})],
        "editor": [("/v1/images/edits", kind, edit, {200})],
        # A chat without pictures is refused, for what it says.
        "thinker": [("/v1/chat/completions", "content-type: application/json", chat, {400, 422})],
    }
    for service, routes in requests.items():
        for path, content_type, sent, expected in routes:
            for offer in OFFERS:
                for late in (False, True):
                    lines = (content_type, f"content-length: {len(sent)}", "connection: Upgrade", f"upgrade: {offer}")
                    more = ("HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",) if "h2c" in offer else ()
                    with place.connect(service) as connection:
                        connection.sendall(place.head(f"POST {path}", *lines, *more))
                        if late:
                            time.sleep(0.05)
                        with contextlib.suppress(OSError):
                            connection.sendall(sent)
                            connection.sendall(hidden.replace(SESSIONS.encode(), b"/nope"))
                        got = replies(connection, 2, 1.5)
                    for status in got or [0]:
                        outcome.answers[str(status)] += 1
                    told = f"{service} {path} {offer}{' late' if late else ''}: {got}"
                    outcome.expect(len(got) == 2 and got[0] in expected and got[1] in {401, 404}, told)


def hidden_in_a_body(place: Arena, outcome: Outcome) -> None:
    """A request in the late body of one that offers a protocol is not answered as a request of its own."""
    smuggled = place.head(f"GET {SESSIONS}?limit=1")
    for offer in OFFERS:
        with place.connect() as connection:
            lines = ("content-type: application/json", f"content-length: {len(smuggled)}", "connection: upgrade, keep-alive")
            connection.sendall(place.head(f"POST {SESSIONS}", *lines, f"upgrade: {offer}"))
            time.sleep(0.1)
            connection.sendall(smuggled)
            got = replies(connection, 2, 2)
        outcome.answers.update(map(str, got))
        outcome.expect(got == [400], f"{offer}: {got}")


def idle(place: Arena, outcome: Outcome) -> None:
    """A connection that rests for eight seconds, as a balancer's does, serves the next request."""
    for service in place.pids:
        with place.connect(service) as connection:
            request = place.head("GET /healthz")
            connection.sendall(request)
            first = replies(connection, 1)
            time.sleep(8)
            with contextlib.suppress(OSError):
                connection.sendall(request)
            second = replies(connection, 1)
        outcome.answers.update(map(str, first + second))
        outcome.expect(first == second == [200], f"{service}: {first}, then {second or 'closed'}")


def long_members(place: Arena, outcome: Outcome) -> None:
    """JSON whose one name has 40 MiB, and prompts of 30 MiB."""
    start = b'{"image": "%s", "prompt": "x", ' % TEXT.encode()
    bodies = [
        start + b'"' + b"a" * (40 * MIB) + b'": 1}',
        start + b'"' + "é".encode() * (20 * MIB) + b'": 1}',
        start + b'"a": {"' + b"\\u0061" * (6 * MIB) + b'": 1}}',
        b'{"image": "x", "prompt": "' + b" " * (40 * MIB) + b'"}',
        b'{"image": "x", "prompt": "' + b"\\u00e9" * (6 * MIB) + b'"}',
    ]
    with place.client() as client:
        for body in bodies:
            outcome.got(client.post(SESSIONS, content=body, headers={"content-type": "application/json"}))


def abandoned_conversions(place: Arena, outcome: Outcome) -> None:
    """Pictures of 50 megapixels asked for as WebP, by callers that leave at once."""
    from tests.attacks import files  # noqa: PLC0415 - made in the attacker's process only

    with place.client() as client:
        fields = {"prompt": "warmer", "max_turns": "1", "review": "each_turn"}
        made = outcome.got(
            client.post(SESSIONS, files={"image": ("a.png", files.deep_png(kind=0, transparent=False))}, data=fields)
        )
        if made.status_code != 202:
            return
        session = made.json()["id"]
        client.post(f"{SESSIONS}/{session}/cancel")
    for number in range(12):
        with place.connect() as connection:
            connection.sendall(place.head(f"GET {SESSIONS}/{session}/source?format=webp&compression={number}", tenant=READER))
            time.sleep(0.1)
    outcome.answers["left"] += 12
    # One that waits for its answer, behind the abandoned ones.
    began = time.monotonic()
    with place.client(READER, timeout=240) as client:
        outcome.got(client.get(f"{SESSIONS}/{session}/source?format=webp"))
    outcome.notes["the next conversion took"] = f"{time.monotonic() - began:.1f} s"


def unread_replies(place: Arena, outcome: Outcome) -> None:
    """Twenty replies of 16 MB of which nothing is read for fifteen seconds."""
    # More than a kernel holds of one reply (4 MB, net.ipv4.tcp_wmem).
    session = session_of(place, noise(2400, 2200))
    before = _resident(place)
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(20):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", place.port))
            connection.sendall(place.head(f"GET {SESSIONS}/{session}/source"))
            connections.append(connection)
        time.sleep(15)
        outcome.notes["held after 15 s"] = f"{_resident(place) - before:.0f} MiB"
        for connection in connections:
            connection.settimeout(1)
            try:
                outcome.answers[connection.recv(12)[9:].decode() or "closed"] += 1
            except OSError:
                outcome.answers["closed"] += 1


def _resident(place: Arena) -> float:
    import psutil  # noqa: PLC0415

    return float(psutil.Process(place.pids["orchestrator"]).memory_info().rss) / MIB


def trickles(place: Arena, outcome: Outcome) -> None:
    """Thirty uploads that send 18 MB and then a little at a time, while the attacker watches what they hold."""
    body = form(noise(2400, 2500)[: 18 * 1000 * 1000], prompt="warmer")[:-10]
    highest = 0
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(30):
            connection = stack.enter_context(place.connect())
            connection.settimeout(2)
            lines = ("content-type: multipart/form-data; boundary=b", f"content-length: {len(body) + 100_000}")
            try:
                connection.sendall(place.head(f"POST {SESSIONS}", *lines))
                connection.sendall(body)
            except OSError:
                outcome.answers["stopped"] += 1
                continue
            connections.append(connection)
        ends = time.monotonic() + 8
        while time.monotonic() < ends and connections:
            for connection in list(connections):
                try:
                    connection.sendall(b"a" * 64)
                    if select.select([connection], [], [], 0)[0]:
                        outcome.count(*_status_of(connection))
                        connections.remove(connection)
                except OSError:
                    outcome.answers["closed"] += 1
                    connections.remove(connection)
            highest = max(highest, place.left()["tmp"])
            time.sleep(0.2)
        outcome.answers["still open"] += len(connections)
    outcome.notes["most in /tmp"] = f"{highest / MIB:.0f} MiB"
    outcome.expect(highest < 256 * MIB, f"/tmp held {highest / MIB:.0f} MiB")


def _status_of(connection: socket.socket) -> tuple[int, bytes]:
    head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
    return (int(head[9:12]), body) if head else (0, b"")


def parts_beyond_their_limit(place: Arena, outcome: Outcome) -> None:
    """A field of 50 MB, of which 1 MB is allowed, and a picture beyond its limit: each is stopped while it arrives."""
    cases = {
        "a field": b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n',
        "a picture": b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n',
    }
    for name, start in cases.items():
        taken = 0
        with place.connect() as connection:
            lines = ("content-type: multipart/form-data; boundary=b", f"content-length: {55 * MIB}")
            connection.sendall(place.head(f"POST {SESSIONS}", *lines) + start)
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                while taken < 54 * MIB and not select.select([connection], [], [], 0.02)[0]:
                    connection.sendall(bytes(MIB))
                    taken += MIB
            with contextlib.suppress(OSError):
                outcome.count(*_status_of(connection))
        outcome.notes[f"{name} was stopped after"] = f"{taken / MIB:.0f} MiB"
        outcome.expect(taken < 40 * MIB, f"{name} was taken for {taken / MIB:.0f} MiB")


def streams_of_one_key(place: Arena, outcome: Outcome) -> None:
    """Sixty streams of one Idempotency-Key, where a tenant may have five."""
    body = form(prompt="warmer", stream="true", max_turns="1", model="slow")
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(60):
            connection = stack.enter_context(place.connect())
            lines = ("content-type: multipart/form-data; boundary=b", f"content-length: {len(body)}", "idempotency-key: one")
            connection.sendall(place.head("POST /v1/images/edits", *lines) + body)
            connections.append(connection)
        for connection in connections:
            connection.settimeout(10)
            status = connection.recv(12)[9:12]
            outcome.answers[status.decode() or "closed"] += 1
    outcome.expect(outcome.answers["200"] <= 5, f"{outcome.answers['200']} streams are open")


def streams_of_a_revoked_key(place: Arena, outcome: Outcome) -> None:
    """A stream that is open when its key is revoked ends."""
    secret, key_id = place.make_key("ann")
    with httpx.Client(
        base_url=place.urls["orchestrator"], headers={"authorization": f"Bearer {secret}"}, timeout=30, trust_env=False
    ) as client:
        fields = {"prompt": "warmer", "review": "each_turn"}
        session = client.post(SESSIONS, files={"image": IMAGE}, data=fields).json()["id"]
        with client.stream("GET", f"{SESSIONS}/{session}/events") as stream:
            outcome.answers[str(stream.status_code)] += 1
            place.revoke(key_id)
            began, ended = time.monotonic(), False
            with contextlib.suppress(httpx.HTTPError):
                for _ in _until(stream.iter_raw(), began + 20):
                    pass
            ended = time.monotonic() < began + 20
    outcome.notes["ended after"] = f"{time.monotonic() - began:.1f} s"
    outcome.expect(ended, "the stream goes on for 20 s")


def _until(pieces: Iterator[bytes], ends: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        if time.monotonic() > ends:
            return


SCENARIOS = [
    Scenario(
        "1",
        "protocol offers",
        f"{len(OFFERS)} offers at 4 routes of 3 services, body at once and late",
        offers,
        Bound(cpu_s=15),
        light=True,
    ),
    Scenario(
        "1",
        "a request in a late body",
        f"{len(OFFERS)} offers; the body is a request",
        hidden_in_a_body,
        Bound(),
        frozenset({"400"}),
    ),
    Scenario("1", "idle connections", "nothing for 8 s", idle, Bound(), frozenset({"200"}), light=False),
    Scenario(
        "5", "long names and texts in JSON", "5 bodies of 36 to 40 MiB", long_members, Bound(cpu_s=8), frozenset({"400", "413"})
    ),
    Scenario(
        "6",
        "abandoned conversions",
        "12 x GET ?format=webp of 50 megapixels, read-only key",
        abandoned_conversions,
        Bound(1000, cpu_s=40),
        limit_s=180,
        light=False,
    ),
    Scenario(
        "7",
        "replies that are not read",
        "20 x GET of 16 MB",
        unread_replies,
        Bound(250),
        frozenset({"200", "429", "503", "closed"}),
        light=False,
    ),
    Scenario(
        "8", "uploads that never end", "30 uploads of 18 MB, then 300 bytes a second", trickles, Bound(300, cpu_s=15), light=False
    ),
    Scenario(
        "8",
        "parts beyond their limit",
        "a field of 54 MiB, a picture of 54 MiB",
        parts_beyond_their_limit,
        Bound(100),
        frozenset({"400", "413"}),
    ),
    Scenario(
        "13",
        "streams of one key",
        "60 streams, EDITTHINKER_TENANT_STREAMS=5",
        streams_of_one_key,
        Bound(),
        frozenset({"200", "429"}),
    ),
    Scenario(
        "13",
        "a stream of a revoked key",
        "the key is revoked",
        streams_of_a_revoked_key,
        Bound(),
        frozenset({"200"}),
        light=False,
    ),
]
