"""Well-behaved callers: they retry failed requests on any replica with the same key, and disconnect and resume streams.

Every answer goes into a `CallerRecord` for the checker. Only invalid answers are reported here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import openai
from PIL import Image

from tests.chaos.evidence import CallerRecord, ListenerRecord, Route

_PHOTOS: Final = Path(__file__).parents[2] / "examples" / "photos"
_PROMPTS: Final = (
    "make it feel like golden hour",
    "make it look like a faded 1970s print",
    "a cold winter morning",
    "make it dramatic",
)
_WORDS: Final = ("increase the contrast by 20%", "add a vignette of 30%", "increase the warmth by 30%")
_TIMEOUT_S: Final = 10.0
_SILENCE_S: Final = 15.0
"""A stream sends something every 10 s."""
_AGAIN_S: Final = (0.05, 0.5)
_LONGEST_WAIT_S: Final = 3.0
"""Longest wait for a Retry-After; less than a real caller should wait, so that the load stays high."""
_WAITS_S: Final = 120.0
"""Timeout of a caller that waits for its picture; more than any session takes, so that nobody is saved by it."""
_LATER: Final = {408, 429}
_ENDED: Final = {"editor_failed", "editor_timeout", "deadline_exceeded", "driver_crashed"}
"""Errors that are the answer: the session has finished without a picture."""
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class Request:
    """One session: its request, and how its caller behaves."""

    number: int
    key: str
    turns: int
    steps: int
    candidates: int
    photo: int
    prompt: str
    review: bool
    deadline_s: float | None
    cancel_after: int | None
    """Cancel after this many events."""
    ask_twice: bool
    """Repeat the request although it was answered."""
    listeners: tuple[bool, ...]
    """For each, whether it disconnects now and then."""
    waits: bool = False
    """It is a user of the openai library who waits for the picture."""


def request(seed: int, number: int) -> Request:
    """The request of that number; a pure function."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.random()
    return Request(
        number=number,
        key=f"session-{seed}-{number}",
        turns=rng.randint(2, 5),
        steps=rng.randint(5, 12),
        candidates=2 if rng.random() < 0.1 else 1,
        photo=rng.randrange(3),
        prompt=rng.choice(_PROMPTS),
        review=kind < 0.12,
        deadline_s=rng.choice((1, 2, 4)) if 0.12 <= kind < 0.2 else None,
        cancel_after=rng.randint(1, 12) if 0.2 <= kind < 0.3 else None,
        ask_twice=rng.random() < 0.15,
        listeners=tuple(rng.random() < 0.5 for _ in range(rng.choice((1, 1, 2)))),
    )


def photos(width: int = 96, height: int = 72) -> list[str]:
    """The examples, small, as base64."""
    found = []
    for name in ("astronaut", "chelsea", "coffee"):
        buffer = io.BytesIO()
        with Image.open(_PHOTOS / f"{name}.jpg") as photo:
            photo.convert("RGB").resize((width, height)).save(buffer, "JPEG", quality=85)
        found.append(base64.b64encode(buffer.getvalue()).decode())
    return found


def body(asked: Request, pictures: list[str], thinkers: list[str]) -> dict[str, Any]:
    """The request's body. Unreachable thresholds make a session use all its turns."""
    fields: dict[str, Any] = {
        "image": pictures[asked.photo],
        "prompt": asked.prompt,
        "max_turns": asked.turns,
        "candidates": asked.candidates,
        "semantic_threshold": 10,
        "quality_threshold": 10,
        "patience": 5,
        # Further apart than any session draws seeds, because the journal identifies an edit by its seed.
        "seed": asked.number * 1000,
        "num_inference_steps": asked.steps,
        "thinker": thinkers[asked.number % len(thinkers)],
        "user": asked.key,
        "review": "each_turn" if asked.review else "never",
    }
    return fields | ({} if asked.deadline_s is None else {"deadline_s": asked.deadline_s})


class Crowd:
    """Callers of a fleet.

    Args:
        urls: the replicas; may change while they call.
        thinkers: names of the thinkers to use.
        seed: of their random behaviour.
        front: where those call who use the openai library.
        doors: names of the processes that are called, by URL.
    """

    def __init__(
        self,
        urls: Callable[[], list[str]],
        thinkers: list[str],
        seed: int,
        front: str = "",
        doors: Mapping[str, str] | None = None,
    ) -> None:
        self._urls = urls
        self._doors = doors or {}
        self._front = front
        self._openai = openai.AsyncOpenAI(
            base_url=f"{front}/v1", api_key="none", timeout=openai.Timeout(_WAITS_S, connect=3, write=15)
        )
        self._thinkers = thinkers
        self._seed = seed
        self._rng = random.Random(seed)
        self._pictures = photos()
        self.told: list[CallerRecord] = []
        self.answers: Counter[int] = Counter()
        """By status; 0 is no answer."""
        self.finished = 0

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=_SILENCE_S)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        await self._openai.close()

    async def live(self, asked: Request) -> CallerRecord:
        """Run one session from its request to its end, as its caller sees it."""
        told = CallerRecord(asked.key)
        self.told.append(told)
        if asked.waits:
            await self._wait(asked, told)
            self.finished += 1
            return told
        session_id = await self._create(asked, told)
        if session_id is None:
            return told
        told.heard = [ListenerRecord(session_id) for _ in asked.listeners]
        caller = _Caller(self, asked, told, session_id)
        async with asyncio.TaskGroup() as tasks:
            if asked.ask_twice:
                tasks.create_task(self._create(asked, told))
            for place, (heard, cuts) in enumerate(zip(told.heard, asked.listeners, strict=True)):
                tasks.create_task(self._listen(told, heard, cuts=cuts, then=caller.heard if place == 0 else _nothing))
        self.finished += 1
        return told

    async def _create(self, asked: Request, told: CallerRecord) -> str | None:
        request = body(asked, self._pictures, self._thinkers)
        reply = await self.post(told, "/v1/sessions", request, {"Idempotency-Key": asked.key})
        if reply is None or not isinstance(reply.get("id"), str):
            return None
        session_id: str = reply["id"]
        told.ids.add(session_id)
        return session_id

    async def _wait(self, asked: Request, told: CallerRecord) -> None:
        """Call the images endpoint until there is an answer, under one key, as the docs say."""
        fields = body(asked, self._pictures, self._thinkers)
        image, prompt, user = base64.b64decode(fields.pop("image")), fields.pop("prompt"), fields.pop("user")
        del fields["review"]
        while told.waited is None:
            retry_after, began = 0.0, time.time()
            try:
                raw = await self._openai.images.with_raw_response.edit(
                    image=("photo.jpg", image),
                    prompt=prompt,
                    user=user,
                    extra_body=fields,
                    extra_headers={"Idempotency-Key": asked.key},
                )
                reply, status = raw.parse(), 200
                session_id: str = (reply.model_extra or {})["session_id"]
                told.ids.add(session_id)
                told.route = self._route(self._front, raw.headers, began)
                told.waited = session_id, time.time(), bool(reply.data and base64.b64decode(reply.data[0].b64_json or ""))
            except openai.APIStatusError as exc:
                status, headers = exc.status_code, exc.response.headers
                told.ids |= {headers["x-session-id"]} if "x-session-id" in headers else set()
                if exc.code in _ENDED and told.ids:
                    told.route = self._route(self._front, headers, began)
                    told.waited = min(told.ids), time.time(), False
                elif status < 500 and status not in _LATER:
                    told.refusals.append(f"the openai client was answered {status}: {exc.body}")
                    return
                retry_after = float(headers.get("retry-after", 0))
            except openai.APIConnectionError:
                status = 0
            self.answers[status] += 1
            if told.waited is None:
                await self._breathe(min(retry_after, _LONGEST_WAIT_S))

    async def post(
        self, told: CallerRecord, path: str, fields: dict[str, Any], headers: Mapping[str, str], *, conflicts: bool = False
    ) -> dict[str, Any] | None:
        """Send to any replica until one gives a valid answer; None for a refusal, which is recorded."""
        while True:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=3)
            try:
                async with self._http.post(self.anyone() + path, json=fields, headers=headers, timeout=timeout) as reply:
                    text = await reply.text()
                    status, wait = reply.status, reply.headers.get("retry-after")
            except _BROKEN:
                status, text, wait = 0, "", None
            self.answers[status] += 1
            if 200 <= status < 300:
                found: dict[str, Any] = json.loads(text)
                return found
            if status == 409 and conflicts:
                return None
            if 0 < status < 500 and status not in _LATER:
                told.refusals.append(f"POST {path} was answered {status}: {text[:300]}")
                return None
            await self._breathe(0.0 if wait is None else min(float(wait), _LONGEST_WAIT_S))

    async def _listen(
        self, told: CallerRecord, heard: ListenerRecord, *, cuts: bool, then: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        """Receive every event once, over as many connections as needed, to any replica."""
        path = f"/v1/sessions/{heard.session_id}/events"
        while not heard.ended:
            last = heard.events[-1][0] if heard.events else 0
            headers = {"Last-Event-ID": str(last)} if last else {}
            left = self._rng.randint(1, 6) if cuts else None
            door, began = self.anyone(), time.time()
            try:
                async with self._http.get(door + path, headers=headers) as reply:
                    heard.connections += 1
                    heard.route = self._route(door, reply.headers, began) if heard.finished_at is None else heard.route
                    if reply.status == 204:
                        heard.ended = True
                        if not heard.events or heard.events[-1][1]["type"] != "finished":
                            told.refusals.append(f"204 to a listener that had received up to {last}")
                    elif reply.status == 200:
                        async for number, event in _frames(reply, told):
                            heard.events.append((number, event))
                            if event["type"] == "finished":
                                heard.finished_at = time.time()
                            await then(event)
                            # A listener that disconnects reconnects for the 204.
                            heard.ended = event["type"] == "finished" and not cuts
                            left = None if left is None else left - 1
                            if heard.ended or left == 0:
                                break
                        else:
                            await self._breathe()
                    elif reply.status < 500 and reply.status != 429:
                        told.refusals.append(f"GET {path} was answered {reply.status}: {(await reply.text())[:300]}")
                        return
                    else:
                        await self._breathe()
            except _BROKEN:
                await self._breathe()

    async def view(self, session_id: str) -> dict[str, Any] | None:
        """The session by the API; None if it is unknown, or there is no valid answer for too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SILENCE_S):
                while True:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        async with self._http.get(f"{self.anyone()}/v1/sessions/{session_id}") as reply:
                            if reply.status == 404:
                                return None
                            if reply.status == 200:
                                found: dict[str, Any] = await reply.json()
                                return found
                    await self._breathe()
        return None

    def anyone(self) -> str:
        """A replica."""
        return self._rng.choice(self._urls())

    def _route(self, url: str, headers: Mapping[str, str], began: float) -> Route:
        door = self._doors.get(url, "")
        return Route(door, headers.get("x-replica", door), began)

    async def _breathe(self, at_least: float = 0.0) -> None:
        await asyncio.sleep(at_least + self._rng.uniform(*_AGAIN_S))


class _Caller:
    """The owner of a session: cancels it, or gives feedback when it is requested."""

    def __init__(self, crowd: Crowd, asked: Request, told: CallerRecord, session_id: str) -> None:
        self._crowd = crowd
        self._asked = asked
        self._told = told
        self._path = f"/v1/sessions/{session_id}"
        self._events = 0
        self._reviews = 0
        self._rng = random.Random(asked.key)

    async def heard(self, event: dict[str, Any]) -> None:
        self._events += 1
        if self._events == self._asked.cancel_after:
            reply = await self._crowd.post(self._told, f"{self._path}/cancel", {}, {})
            self._told.cancelled_at = None if reply is None else str(reply["status"])
        if event["type"] == "review_requested":
            self._reviews += 1
            # A repeat is a conflict if the first request was recorded.
            await self._crowd.post(self._told, f"{self._path}/feedback", self._word(event), {}, conflicts=True)

    def _word(self, event: dict[str, Any]) -> dict[str, Any]:
        if event["best"] is None:
            return {"action": "instruct", "instruction": self._rng.choice(_WORDS)}
        if event["reason"] is not None or self._reviews >= self._asked.turns:
            return {"action": "accept"}
        kind = self._rng.random()
        if kind < 0.6:
            return {"action": "go_on"}
        if kind < 0.8:
            return {"action": "instruct", "instruction": self._rng.choice(_WORDS)}
        return {"action": "pick", "turn": event["best"]["turn"], "candidate": event["best"]["candidate"]}


async def _nothing(_: dict[str, Any]) -> None:
    return


async def _frames(reply: aiohttp.ClientResponse, told: CallerRecord) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """Yield (id, data) of each event; an incomplete frame at the end of a connection is dropped."""
    frame: dict[str, str] = {}
    async for line in reply.content:
        text = line.decode().rstrip("\r\n")
        if text:
            name, _, value = text.partition(": ")
            frame[name] = value
            continue
        if "data" in frame:
            event = json.loads(frame["data"])
            if event["type"] != frame.get("event"):
                told.refusals.append(f"an event of type {event['type']} was called {frame.get('event')}")
            yield int(frame["id"]), event
        frame = {}
