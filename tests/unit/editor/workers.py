"""A worker in this process, and a pipeline each edit of which a test can block or fail."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image

from services.editor.api.context import Context
from services.editor.app import create_app
from services.editor.engine.executor import State
from services.editor.pipelines import Capabilities, EditJob, EditResult, Pipeline, Range, SingleStepFamily, SingleStepPipeline
from services.editor.settings import Settings
from tests.doubles.decoding import InProcessPool
from tests.doubles.waiting import LIMIT_S, until


class HeldPipeline:
    """Waits at ``gate`` before each edit except the warm-up; raises ``error`` if it is set."""

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[EditJob] = []
        self.error: BaseException | None = None
        self.threads: set[int] = set()
        self._capabilities = capabilities or Capabilities(
            parameters={"num_inference_steps": Range(1, 50, 20, whole=True)}, negative_prompt=True
        )

    @property
    def name(self) -> str:
        return "held"

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def warm_up(self) -> EditJob:
        return EditJob(Image.new("RGB", (8, 8)), "warm up")

    def edit(self, job: EditJob) -> EditResult:
        self.threads.add(threading.get_ident())
        self.seen.append(job)
        if len(self.seen) > 1:
            assert self.gate.wait(LIMIT_S)
        if self.error is not None:
            raise self.error
        return EditResult(job.image, (f"seed {job.seed}",), ())

    @property
    def edits(self) -> int:
        """Edits begun, the warm-up not counted."""
        return len(self.seen) - 1


@contextlib.asynccontextmanager
async def running(
    build: Callable[[], SingleStepFamily | Pipeline] | None = None, *, wait: bool = True, **settings: Any
) -> AsyncIterator[FastAPI]:
    """A started worker, ready unless ``wait`` is false."""

    def made() -> Pipeline:
        assert build is not None
        pipeline: Any = build()
        return pipeline if hasattr(pipeline, "advance") else SingleStepPipeline(pipeline)

    app = create_app(Settings(**{"drain_s": 5, **settings}), build=made if build else None, decoder=InProcessPool())
    async with app.router.lifespan_context(app):
        if wait:
            await until(lambda: context(app).executor.state is not State.STARTING)
        yield app


def context(app: FastAPI) -> Context:
    """The application's parts."""
    found = app.state.context
    assert isinstance(found, Context)
    return found


def client(app: FastAPI) -> httpx.AsyncClient:
    """A client wired to the application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=30)


def png(size: tuple[int, int] = (24, 16), colour: str = "orange", mode: str = "RGB") -> bytes:
    """An encoded picture."""
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


async def post(http: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    """An edit request; ``image`` and ``mask`` may be given as bytes."""
    files = [("image", ("a.png", fields.pop("image", png()), "image/png"))]
    if "mask" in fields:
        files.append(("mask", ("m.png", fields.pop("mask"), "image/png")))
    data = {"prompt": "warmer", **{name: str(value) for name, value in fields.items()}}
    return await http.post("/v1/images/edits", data=data, files=files, headers=headers or {})
