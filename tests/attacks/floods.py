"""Attacks by number and slowness: tiny requests, slow callers, streams that are not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator

from tests.attacks.attack import Answer, Attack, head, read_answer
from tests.attacks.target import IMAGE, TENANTS, Target

SESSIONS = "/v1/sessions"
STREAMS = 1000
"""Default number of streams that a tenant can have open at a time."""


def tiny(count: int, connections: int) -> Attack:
    """Many requests on kept connections, some of them invalid."""

    def send(target: Target) -> list[Answer]:
        kinds = [
            head(target, f"GET {SESSIONS}?limit=1"),
            head(target, f"GET {SESSIONS}", tenant=None),
            head(target, f"GET {SESSIONS}/nope"),
            head(target, "GET /nope", tenant=None),
            head(target, f"POST {SESSIONS}", "content-length: 0"),
            head(target, "PUT /v1/images/edits", tenant=None),
            head(target, f"GET {SESSIONS}?limit=-1", tenant="bob"),
            head(target, f"GET {SESSIONS}", f"authorization: Bearer et_{'A' * 43}", tenant=None),
        ]

        async def caller(number: int) -> list[Answer]:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.process.port)
            answers = []
            for turn in range(count // connections):
                writer.write(kinds[(number + turn) % len(kinds)])
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
                length = next(int(line[16:]) for line in lines if line.startswith("content-length: "))
                answers.append(Answer(int(lines[0].split(" ")[1]), await reader.readexactly(length)))
            writer.close()
            return answers

        async def all_of_them() -> list[Answer]:
            done = await asyncio.gather(*(caller(number) for number in range(connections)))
            return [answer for answers in done for answer in answers]

        return asyncio.run(all_of_them())

    statuses = frozenset({200, 400, 401, 404, 405, 415})
    return Attack(
        f"{count:,} tiny requests",
        f"{connections} connections; right and wrong keys, paths, methods",
        send,
        statuses,
        32,
        20 + count / 1000,
    )


def _dribbling(target: Target, connections: list[socket.socket], seconds: float, answers: list[Answer]) -> float:
    """Send a byte a second on each connection, and return the time of the slowest normal request in between."""
    ends, slowest = time.monotonic() + seconds, 0.0
    while connections and time.monotonic() < ends:
        for connection in list(connections):
            try:
                connection.sendall(b"a")
                connection.setblocking(False)
                closed = connection.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                continue
            except OSError:
                closed = True
            finally:
                with contextlib.suppress(OSError):
                    connection.settimeout(5)
            connections.remove(connection)
            answers.append(Answer(0) if closed else read_answer(connection, "a dribble"))
            connection.close()
        slowest = max(slowest, target.normal())
        time.sleep(0.5)
    return slowest


def slow(count: int, seconds: float, *, cut: bool) -> Attack:
    """Heads and bodies that arrive slowly and never end."""

    def send(target: Target) -> Iterator[Answer]:
        form = "content-type: multipart/form-data; boundary=b"
        starts = {
            "a head": b"GET /v1/sessions HTTP/1.1\r\nhost: a\r\nx-a: ",
            "nothing": b"",
            "a body": head(target, f"POST {SESSIONS}", form, "content-length: 100000") + b"--b\r\n",
            "a body for a 401": head(target, f"POST {SESSIONS}", "content-length: 100000", tenant=None),
            "a second head": head(target, f"GET {SESSIONS}/nope") + b"GET / HTTP/1.1\r\nx-a: ",
        }
        connections = []
        answers: list[Answer] = []
        for start in starts.values():
            for _ in range(count // len(starts)):
                connection = target.connect()
                connection.sendall(start)
                connections.append(connection)
                if start.startswith(b"GET /v1/sessions/nope") or (b"Bearer" not in start and b"POST" in start):
                    answers.append(read_answer(connection, "the first answer"))
        slowest = _dribbling(target, connections, seconds, answers)
        left = len(connections)
        for connection in connections:
            connection.close()
        assert slowest < target.busy, slowest
        assert not cut or left == 0, f"{left} are still connected after {seconds} s"
        yield from answers

    sent = "a byte a second: heads, bodies, bodies of refused requests, second heads, silence"
    name = f"{count} slow callers" + (", until all are disconnected" if cut else "")
    return Attack(name, sent, send, frozenset({0, 400, 401, 404, 408}), 32, seconds + 10)


def streams(count: int) -> Attack:
    """Streams of one tenant that are opened and not read."""

    def send(target: Target) -> Iterator[Answer]:
        with target.client() as client:
            reply = client.post(SESSIONS, files={"image": IMAGE}, data={"prompt": "x" * 32_000, "max_turns": "1"})
            session_id = reply.json()["id"]
            for odd in ("-1", "x", "9" * 400, "\uff11", "1.5", "\x1b", "1, 2"):
                asked = client.get(f"{SESSIONS}/{session_id}/events", headers={b"last-event-id": odd.encode()})
                yield Answer.of(asked, f"Last-Event-ID: {odd}")
        request = head(target, f"GET {SESSIONS}/{session_id}/events")
        connections: list[socket.socket] = []
        slowest, statuses = 0.0, Counter[bytes]()
        while len(connections) < count:
            batch = [target.connect() for _ in range(100)]
            for connection in batch:
                connection.sendall(request)
            statuses.update(connection.recv(12)[9:] for connection in batch)
            connections += batch
            slowest = max(slowest, _normal_of_another(target))
        opened = target.descriptors()
        for connection in connections:
            connection.close()
        assert statuses.keys() <= {b"200", b"429"} and statuses[b"200"] >= min(count, STREAMS), statuses
        assert slowest < target.busy, slowest
        ends = time.monotonic() + 20
        while target.descriptors() > opened - count + 20:
            assert time.monotonic() < ends, "streams of disconnected callers stay open"
            time.sleep(0.1)

    return Attack(
        f"{count} streams that are not read", "of one session, with a prompt of 32 kB", send, frozenset({400}), 40 + count / 8, 30
    )


def _normal_of_another(target: Target) -> float:
    began = time.monotonic()
    with target.client(TENANTS[1]) as client:
        assert client.get(SESSIONS).status_code == 200
    return time.monotonic() - began


ATTACKS = [tiny(1_600, 50), slow(200, 3, cut=False), streams(200)]
HEAVY = [tiny(10_000, 50), tiny(100_000, 200), slow(1000, 50, cut=True), streams(2000)]
