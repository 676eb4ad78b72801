"""An attack, and the checks that must pass during and after it.

judge(target, attack)    runs it and returns what was observed, with every check that failed
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.attacks.target import Target

HERE = re.escape(str(Path(__file__).parents[2]))
LEAKS = re.compile(rf"Traceback|site-packages|{HERE}|\.py\b|redis://|et:\{{0\}}|127\.0\.0\.1:\d|object at 0x|root:x:0")
QUICK_S = 2.0
"""Limit of a normal request right after an attack, on two busy cores."""


@dataclass(frozen=True)
class Answer:
    """An answer; status 0 if the connection was closed without one."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    what: str = ""

    @classmethod
    def of(cls, reply: httpx.Response, what: str = "") -> Answer:
        return cls(reply.status_code, reply.content, dict(reply.headers), what)

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        sent: a description of what is sent, for the table.
        statuses: the allowed statuses.
        most_mib: how much the orchestrator's peak memory may grow.
        most_s: how long the whole attack may take.
    """

    name: str
    sent: str
    send: Callable[[Target], Iterable[Answer]]
    statuses: frozenset[int]
    most_mib: float = 64
    most_s: float = 10


@dataclass(frozen=True)
class Seen:
    """What was observed of an attack."""

    answers: Counter[int]
    seconds: float
    mib: float
    normal_s: float
    faults: list[str]


def judge(target: Target, attack: Attack) -> Seen:
    """Run an attack and every check."""
    target.script.begin()
    target.script.hold_every = True
    logged = target.process.log.stat().st_size
    target.normal()
    target.reset_peak()
    before, began = target.rss(), time.monotonic()
    answers = list(attack.send(target))
    seconds, mib, normal_s = time.monotonic() - began, target.rss("VmHWM") - before, target.normal()
    target.settle()
    faults = [f"{answer.status} to {answer.what or attack.name}" for answer in answers if answer.status not in attack.statuses]
    faults += [f"{fault} in the answer to {answer.what}" for answer in answers for fault in _faults(target, answer)]
    faults += [f"{fault} in the log" for fault in _log_faults(target, logged)]
    if mib > attack.most_mib:
        faults.append(f"memory grew by {mib:.0f} MiB")
    if seconds > target.busy * attack.most_s:
        faults.append(f"it took {seconds:.1f} s")
    if normal_s > target.busy * QUICK_S:
        faults.append(f"a normal request took {normal_s:.1f} s afterwards")
    return Seen(Counter(answer.status for answer in answers), seconds, mib, normal_s, faults)


def _faults(target: Target, answer: Answer) -> list[str]:
    text = answer.body.decode("utf-8", "replace")
    faults = (
        [f"a leak ({found[0]})"]
        if (found := LEAKS.search(text)) and "image/" not in answer.headers.get("content-type", "")
        else []
    )
    faults += ["a secret"] * any(secret in text for secret in target.secrets)
    if answer.status >= 400:  # must have OpenAI's shape
        try:
            error = json.loads(text)["error"]
            faults += [] if set(error) == {"message", "type", "param", "code"} else [f"another shape ({error})"]
        except (ValueError, KeyError, TypeError):
            faults.append(f"an unknown error shape ({text[:80]!r})")
    return faults


def _log_faults(target: Target, after: int) -> list[str]:
    with target.process.log.open("rb") as log:
        log.seek(after)
        raw = log.read()
    faults = ["a secret"] * any(secret.encode() in raw for secret in target.secrets)
    for line in raw.split(b"\n")[:-1]:
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            faults.append(f"a line that is not JSON ({line[:80]!r})")
            continue
        if entry.get("level") in {"error", "critical"} or "Traceback" in line.decode("utf-8", "replace"):
            faults.append(f"an error ({line[:300]!r})")
    return faults[:5]


def exchange(target: Target, data: bytes | Iterable[bytes], what: str = "", *, seconds: float = 10) -> Answer:
    """Send bytes over a plain connection, and return the first answer."""
    with target.connect() as connection:
        connection.settimeout(seconds)
        try:
            for piece in [data] if isinstance(data, bytes) else data:
                connection.sendall(piece)
        except OSError:
            pass  # The server closed the connection; its answer was sent before.
        return read_answer(connection, what)


def read_answer(connection: socket.socket, what: str = "") -> Answer:
    """Read the next answer from a plain connection."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65_536)
            if not piece:
                return Answer(0, what=what)
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", "0")) and (piece := connection.recv(65_536)):
            body += piece
    except (ConnectionError, TimeoutError):
        return Answer(0, what=what)
    return Answer(int(lines[0].split(" ")[1]), body[: int(headers.get("content-length", len(body)))], headers, what)


def head(target: Target, line: str, *headers: str, tenant: str | None = "ann") -> bytes:
    """The head of a request, without any normalisation by a client library."""
    key = [f"authorization: Bearer {target.keys[tenant]}"] if tenant else []
    return ("\r\n".join([f"{line} HTTP/1.1", "host: a", *key, *headers]) + "\r\n\r\n").encode("latin-1")
