"""Callers: limited in number and time, and cheap, because they share the machine with the stack."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from benchmarks.scale.draws import MOST_TURNS, Step

_BOUNDARY = "scale-benchmark-boundary"
_MOST_AT_ONCE = 16  # concurrent requests that create a session without waiting for it
_LONGEST_S = 900.0
_CUT = 599  # counted like a status: the connection was cut before there was an answer


@dataclass(slots=True)
class Seen:
    """What the callers saw.

    Attributes:
        answers: HTTP statuses.
        finished: by reason, of the sessions that were waited for.
        took_s: duration of those requests.
        created_s: duration of the requests that did not wait.
    """

    answers: Counter[int] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    created_s: list[float] = field(default_factory=list)
    edits: int = 0
    turns: int = 0
    ids: list[str] = field(default_factory=list)


class Callers:
    """Creates sessions on the replicas in turn.

    Args:
        urls: of the replicas.
        source: the picture that every session edits.
        fields: further fields of every session.
    """

    def __init__(self, urls: Sequence[str], source: bytes, fields: Mapping[str, str] | None = None) -> None:
        self._urls = itertools.cycle(urls)
        self._all = list(urls)
        self._source = source
        self._fields = {"max_turns": str(MOST_TURNS), "patience": "20", "deadline_s": "3600", **(fields or {})}
        self.seen = Seen()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_LONGEST_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def create(self, number: int, *, wait: bool) -> dict[str, Any] | None:
        """Create a session, and optionally wait for its end; None if it was refused."""
        headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
        if wait:
            headers["prefer"] = f"wait={int(_LONGEST_S)}"
        began = time.monotonic()
        body = self._body(number)
        try:
            async with self._http.post(f"{next(self._urls)}/v1/sessions", data=body, headers=headers) as reply:
                self.seen.answers[reply.status] += 1
                session: dict[str, Any] = await reply.json()
        except aiohttp.ClientError:
            self.seen.answers[_CUT] += 1
            return None
        if reply.status >= 400:
            return None
        self.seen.ids.append(session["id"])
        if not wait:
            self.seen.created_s.append(time.monotonic() - began)
        else:
            self.seen.finished[session["finish_reason"] or session["status"]] += 1
            self.seen.took_s.append(time.monotonic() - began)
            self.seen.edits += session["totals"]["edits"]
            self.seen.turns += session["totals"]["turns"]
        return session

    async def batch(self, numbers: range) -> float:
        """Create all sessions at once and wait for them; return the seconds."""
        began = time.monotonic()
        await asyncio.gather(*(self.create(number, wait=True) for number in numbers))
        return time.monotonic() - began

    async def fill(self, numbers: range) -> None:
        """Create sessions without waiting for them."""
        waiting = iter(numbers)

        async def maker() -> None:
            for number in waiting:
                await self.create(number, wait=False)

        await asyncio.gather(*(maker() for _ in range(_MOST_AT_ONCE)))

    async def keep(self, alive: int, seconds: float, numbers: Iterator[int]) -> None:
        """A closed loop: a number of callers, each with a new session as soon as the last one has finished."""
        ends = time.monotonic() + seconds

        async def caller() -> None:
            while time.monotonic() < ends:
                if await self.create(next(numbers), wait=True) is None:
                    await asyncio.sleep(1)

        tasks = [asyncio.create_task(caller()) for _ in range(alive)]
        try:
            await asyncio.sleep(seconds)
        finally:
            await _cancelled(tasks)

    async def offer(self, rate: float, seconds: float, numbers: Iterator[int]) -> int:
        """An open loop: create sessions at a steady rate without waiting for them; return their number."""
        began, count, tasks = time.monotonic(), 0, set[asyncio.Task[Any]]()
        while (due := count / rate) < seconds:
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            task = asyncio.create_task(self.create(next(numbers), wait=False))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            count += 1
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        return count

    async def metrics(self) -> list[str]:
        """/metrics of every replica."""
        return [await self._text(f"{url}/metrics") for url in self._all]

    async def _text(self, url: str) -> str:
        async with self._http.get(url) as reply:
            return await reply.text()

    def _body(self, number: int) -> bytes:
        fields = {"prompt": str(Step(number)), "seed": str(number), **self._fields}
        head = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
        )
        picture = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        return (head + picture).encode() + self._source + f"\r\n--{_BOUNDARY}--\r\n".encode()


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
