"""Plays random requests against one worker, and judges the answers and what is left of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import dataclasses
import gc
import io
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fastapi import FastAPI
from PIL import Image

from services.editor.pipelines import EditJob, LoraChoice, Pipeline
from services.imaging import codec
from tests.doubles.waiting import until
from tests.fuzz.asking import Asked, Asker
from tests.unit.editor import workers

ROUND = 32
"""Requests at once; more than the worker takes, now and then."""
SAMPLED = 20
"""Of so many pictures one is compared with the plain pipeline's."""
_NAMELESS = frozenset({"overloaded", "not_ready", "request_timeout", "edit_cancelled", "invalid_multipart", "not_found"})
_REFERENCE_PIXELS = 4_194_304
_PAGE = 4096
_GROWTH = 48 * 1024 * 1024
"""Bytes by which the second half of a run may grow: fragments of the allocator's."""

Plain = Callable[[EditJob], Image.Image]
"""The picture of a job, made alone by a pipeline that serves nothing else."""


@dataclass
class Answer:
    """One request's answer: its status, its body as JSON (or none), and the events of a stream."""

    status: int
    headers: dict[str, str]
    body: bytes
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def error(self) -> dict[str, Any] | None:
        """The error, also of a stream that had begun."""
        found = [event["error"] for event in self.events if "error" in event]
        if found:
            return dict(found[0])
        return None if self.status < 400 else dict(json.loads(self.body)["error"])


@dataclass
class Report:
    """What came of a run.

    Attributes:
        answers: how many by status and error code.
        compared: pictures that were compared with the plain pipeline's.
        faults: in words.
        resident: bytes of the process after each round.
    """

    answers: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    faults: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Bytes by which the last quarter of the rounds is above the second."""
        quarter = len(self.resident) // 4
        if not quarter:
            return 0
        return int(statistics.median(self.resident[-quarter:]) - statistics.median(self.resident[quarter : 2 * quarter]))


async def call(app: FastAPI, asked: Asked) -> Answer | None:
    """Send a request as a server does; None for a caller that has left before the answer."""
    body, kind = asked.body()
    headers = {"host": "localhost", "content-type": kind, "content-length": str(len(body)), **asked.headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/images/edits",
        "raw_path": b"/v1/images/edits",
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    left, sent = asyncio.Event(), asyncio.Event()
    answer: dict[str, Any] = {"status": 0, "headers": {}, "body": b""}
    if asked.leave_s is not None:
        asyncio.get_running_loop().call_later(asked.leave_s, left.set)

    async def receive() -> dict[str, Any]:
        if not sent.is_set():
            sent.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
            answer["headers"] = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            answer["body"] += message.get("body", b"")

    await app(scope, receive, send)
    gone = left.is_set()
    left.set()
    if gone:
        return None
    found = Answer(answer["status"], answer["headers"], answer["body"])
    if found.headers.get("content-type", "").startswith("text/event-stream"):
        lines = [line for line in found.body.decode().splitlines() if line.startswith("data: ")]
        found.events = [json.loads(line.removeprefix("data: ")) for line in lines]
    return found


class Player:
    """Plays rounds of requests against a started worker.

    Args:
        app: the worker.
        asker: makes the requests.
        plain: makes the pictures to compare with.
    """

    def __init__(self, app: FastAPI, asker: Asker, plain: Plain) -> None:
        self.report = Report()
        self._app, self._asker, self._plain = app, asker, plain
        self._pictures = 0
        self._keys: list[Asked] = []

    async def play(self, edits: int) -> Report:
        """Send so many requests."""
        sent = 0
        while sent < edits:
            asked = self._round(min(ROUND, edits - sent))
            answers = await asyncio.gather(*(self._one(each) for each in asked))
            sent += len(asked)
            for each, answer in zip(asked, answers, strict=True):
                for fault in self._judge(each, answer):
                    self.report.faults.append(f"{fault}: {each}")
            await self._settle(asked)
        return self.report

    def _round(self, number: int) -> list[Asked]:
        """Requests that are sent at once; some repeat another's key, with the same form or another."""
        asked = [self._asker.asked() for _ in range(number)]
        random = self._asker.random
        conflicting = set()
        for place in range(1, number):
            if asked[place - 1].key is not None and random.random() < 0.3:
                earlier = asked[place - 1]
                if random.random() < 0.7:
                    asked[place] = dataclasses.replace(earlier, leave_s=None)
                else:
                    asked[place].headers["idempotency-key"] = earlier.key or ""
                    conflicting.add(earlier.key)
        stopped = {each.key for each in asked if each.delete_s is not None}
        for each in asked:
            each.stopped, each.conflicts = each.key in stopped, each.key in conflicting
        return asked

    async def _one(self, asked: Asked) -> Answer | None:
        stopping = asyncio.create_task(self._stop(asked)) if asked.delete_s is not None else None
        try:
            return await call(self._app, asked)
        finally:
            if stopping is not None:
                await stopping

    async def _stop(self, asked: Asked) -> None:
        await asyncio.sleep(asked.delete_s or 0)
        workers.context(self._app).engine.abort(asked.key or "")

    async def _settle(self, asked: list[Asked]) -> None:
        """Stop what was left behind, and see that nothing of it remains."""
        context = workers.context(self._app)
        for key in {each.key for each in asked if each.key is not None}:
            context.engine.abort(key)
        with contextlib.suppress(AssertionError, TimeoutError):
            await until(lambda: not (context.executor.in_flight or context.executor._handles or context.engine._tasks))
        left = (context.executor.in_flight, len(context.executor._handles), len(context.engine._tasks), context.uploads.used)
        if any(left):
            self.report.faults.append(f"left behind: in flight, handles, tasks, bytes of uploads are {left}")
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.report.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE)

    def _judge(self, asked: Asked, answer: Answer | None) -> Iterator[str]:
        if answer is None:
            self.report.answers["left"] += 1
            return
        error = answer.error
        code = "ok" if error is None else str(error["code"])
        self.report.answers[f"{answer.status} {code}"] += 1
        if error is not None:
            yield from self._refused(asked, answer, error)
        elif answer.status != 200:
            yield f"status {answer.status}"
        elif asked.wrong:
            yield f"taken although {sorted(asked.wrong)} is wrong"
        else:
            yield from self._pictured(asked, answer)

    def _refused(self, asked: Asked, answer: Answer, error: dict[str, Any]) -> Iterator[str]:
        code, param = error["code"], error["param"]
        if code in {"overloaded", "not_ready"}:
            if "retry-after" not in answer.headers:
                yield f"{answer.status} without Retry-After"
        elif code == "edit_failed" and param == "prompt" and "does not do this" in error["message"]:
            return  # the stand-in refuses what it cannot do
        elif answer.status >= 500 or code in {"internal_error", "edit_failed", "out_of_memory"}:
            yield f"{answer.status} {error}"
        elif (code == "edit_cancelled" and asked.stopped) or (code == "idempotency_key_reused" and asked.conflicts):
            return
        elif not asked.wrong:
            yield f"refused although all is right: {answer.status} {error}"
        elif param is None and code not in _NAMELESS:
            yield f"names no field: {error}"
        elif param is not None and str(param).partition("[")[0] not in asked.wrong:
            yield f"names {param} where {sorted(asked.wrong)} is wrong: {error}"

    def _pictured(self, asked: Asked, answer: Answer) -> Iterator[str]:
        given = asked.given
        if answer.events:
            done = [event for event in answer.events if event["type"] == "image_edit.completed"]
            partial = Counter(event["index"] for event in answer.events if event["type"] == "image_edit.partial_image")
            if any(count > int(given.get("partial_images", "0")) for count in partial.values()):
                yield f"{partial} partial images"
            found = [(base64.b64decode(event["b64_json"]), event["seed"]) for event in done]
        elif asked.raw:
            found = [(answer.body, int(given["seed"]) if "seed" in given else None)]
        else:
            found = [(base64.b64decode(each["b64_json"]), each["seed"]) for each in json.loads(answer.body)["data"]]
        if len(found) != int(given.get("n", "1")):
            yield f"{len(found)} pictures"
        for place, (data, seed) in enumerate(found):
            picture = Image.open(io.BytesIO(data))
            picture.load()
            kind = given.get("output_format", "png")
            if (asked.size or picture.size, kind) != (picture.size, str(picture.format).lower()):
                yield f"a picture of {picture.size} in {picture.format}, not of {asked.size} in {kind}"
            if "seed" in given and seed != int(given["seed"]) + place:
                yield f"seed {seed}"
            self._pictures += 1
            if self._pictures % SAMPLED == 0 and seed is not None:
                yield from self._compared(asked, picture, seed)

    def _compared(self, asked: Asked, picture: Image.Image, seed: int) -> Iterator[str]:
        self.report.compared += 1
        given = asked.given
        alone = self._plain(job_of(asked, seed, self._asker.capabilities.loras))
        quality = given.get("output_compression")
        kind: Any = given.get("output_format", "png")
        expected = Image.open(io.BytesIO(codec.encode(alone, kind, None if quality is None else int(quality))))
        if (expected.mode, expected.size) != (picture.mode, picture.size):
            yield f"a picture in {picture.mode} of {picture.size}, not in {expected.mode} of {expected.size}"
            return
        difference = np.abs(np.asarray(picture, dtype=np.int16) - np.asarray(expected, dtype=np.int16))
        # Sums of a batch are rounded in another order: a value between two levels moves by one. JPEG and WebP spread that.
        if (kind == "png" and difference.max() > 1) or difference.mean() > (0.1 if kind == "png" else 1):
            yield f"another picture: levels differ by {difference.max()}, by {difference.mean():.3f} on average"


def job_of(asked: Asked, seed: int, loras: Mapping[str, float]) -> EditJob:
    """The job that a request describes, made of what was sent; ``loras`` are those of the worker, with their strengths."""
    given = asked.given
    images = [data for name, data in asked.files if name == "image"]
    masks = [data for name, data in asked.files if name == "mask"]
    scales = ("num_inference_steps", "guidance_scale", "true_cfg_scale", "image_guidance_scale")
    width, _, height = given.get("size", "").partition("x")
    lora = given.get("lora") or (given["model"] if given.get("model") in loras else None)
    return EditJob(
        codec.decode(images[0]),
        given["prompt"],
        seed=seed,
        mask=codec.decode(masks[0]) if masks else None,
        negative_prompt=given.get("negative_prompt"),
        size=(int(width), int(height)) if height else None,
        parameters={name: float(given[name]) for name in scales if name in given},
        references=tuple(codec.reduced(data, _REFERENCE_PIXELS) for data in images[1:]),
        lora=None if lora is None else LoraChoice(lora, float(given.get("lora_scale", loras[lora]))),
        native_size=given.get("native_size") == "true",
        draft=given.get("draft") == "true",
    )


async def fuzzed(
    build: Callable[[], Pipeline], plain: Plain, *, edits: int, seed: int, aspect: float, draft_aspect: float = math.inf
) -> Report:
    """Send random requests to a worker in this process.

    Args:
        build: makes its pipeline.
        plain: makes the pictures to compare with.
        edits: how many requests.
        seed: decides them.
        aspect: the largest aspect ratio of a source.
        draft_aspect: that of a draft's.
    """
    settings: dict[str, Any] = {
        "queue": 24,
        "replay_bytes": 1 << 20,
        "source_cache_bytes": 1 << 20,
        "detached_edit_s": 30,
        "max_active": 4,
    }
    before = {id(each) for each in _edits()}  # of other tests in this process
    async with workers.running(build, **settings) as app:
        random = Random(seed)
        pipeline = workers.context(app).pipeline
        player = Player(app, Asker(random, pipeline.capabilities, aspect, draft_aspect), plain)
        report = await player.play(edits)
    alive = sum(id(each) not in before for each in _edits())
    if alive:
        report.faults.append(f"{alive} edits are still in memory")
    if report.growth > _GROWTH:
        report.faults.append(f"memory grew by {report.growth / 2**20:.0f} MiB")
    return report


def _edits() -> list[object]:
    """Those of diffusion pipelines that are in memory."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each).__name__ == "InterleavedEdit"]
