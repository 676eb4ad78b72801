"""The composition root: settings in, a running worker out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from PIL import Image

from services.editor import compat, health, images
from services.editor.context import Context
from services.editor.executor import Executor
from services.editor.pipelines import EditJob, Pipeline, load
from services.editor.runs import Runs
from services.editor.settings import Settings
from services.editor.telemetry import Telemetry
from services.wire import asgi
from services.wire.images import ImageLimits

_FORM_OVERHEAD = 1024 * 1024
# Large enough to go through every path of a pipeline once, small enough to cost nothing.
_WARM_UP = EditJob(Image.new("RGB", (64, 64), "grey"), "increase the contrast by 10%, blur the background by 10%")


def create_app(settings: Settings, *, build: Callable[[], Pipeline] | None = None) -> FastAPI:
    """The worker as an ASGI application; the pipeline loads when it starts.

    Args:
        settings: what to serve and within which limits.
        build: makes the pipeline; by default the family that the settings name.
    """
    app = FastAPI(
        title="EditThinker editor worker",
        version="0.1.0",
        description="OpenAI's image edits endpoint in front of one editing pipeline.",
        lifespan=_lifespan(settings, build),
    )
    # A picture and a mask, as files or as base64.
    asgi.install(app, max_body=2 * settings.max_image_bytes + _FORM_OVERHEAD)
    for module in (images, compat, health):
        app.include_router(module.router)
    return app


def _lifespan(
    settings: Settings, build: Callable[[], Pipeline] | None
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        make = build or (lambda: load(settings.pipeline))
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side)
        executor = Executor(make, _WARM_UP, queue=settings.queue)
        telemetry = Telemetry(executor)
        runs = Runs(executor, telemetry, limits, threads=settings.codec_threads, replay_bytes=settings.replay_bytes)
        key = settings.api_key.get_secret_value() if settings.api_key else None
        app.state.context = Context(executor, runs, telemetry, limits, key, settings.keepalive_s, time.time())
        executor.start()
        yield
        await asyncio.to_thread(executor.stop, settings.drain_s)
        await runs.close()

    return lifespan
