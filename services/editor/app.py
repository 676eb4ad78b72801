"""The composition root: makes the worker from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from services.editor.api import compat, health, images
from services.editor.api.context import Context
from services.editor.api.sources import KeptSources
from services.editor.engine.async_engine import AsyncEngine, EngineOptions
from services.editor.engine.executor import Executor
from services.editor.engine.warmup import OperatorLimits
from services.editor.metrics import Metrics
from services.editor.pipelines import Pipeline, load
from services.editor.pipelines.watermark import load as load_watermark
from services.editor.settings import Settings
from services.imaging.codec import Effort, ImageLimits
from services.imaging.decode_pool import DecodePool, PoolOptions
from services.protocol.images_api import INPUT_FACTOR
from services.serving import api_docs, middleware, tracing
from services.serving.byte_budget import ByteBudget
from services.serving.origins import OriginPolicy

_FORM_OVERHEAD = 1024 * 1024
_EDITS = "this worker edits pictures: send one, with a prompt, to POST /v1/images/edits"
_OTHER_PATHS = dict.fromkeys(("/images/generations", "/images/variations", "/responses", "/chat/completions"), _EDITS)


def create_app(
    settings: Settings,
    *,
    build: Callable[[], Pipeline] | None = None,
    on_failure: Callable[[str], None] = lambda _: None,
    decoder: DecodePool | None = None,
) -> FastAPI:
    """The worker as an ASGI application; the pipeline is loaded at startup.

    Args:
        settings: what to serve, and the limits.
        build: makes the pipeline; by default the family named by the settings.
        on_failure: called, on another thread, with what happened if the pipeline cannot be built or warmed up, or breaks later.
        decoder: decodes pictures; by default in processes of its own.
    """
    origins = settings.origins()
    app = FastAPI(
        title="EditThinker editor worker",
        version="0.1.0",
        description="OpenAI's image edits endpoint in front of one editing pipeline.",
        lifespan=_lifespan(settings, origins, build, on_failure, decoder),
        # FastAPI's own pages load scripts from another server.
        docs_url=None,
        redoc_url=None,
    )
    # All pictures of a request, as files; one as base64.
    max_body = INPUT_FACTOR * settings.max_image_bytes + _FORM_OVERHEAD
    middleware.install(app, max_body=max_body, policy=origins, other_paths=_OTHER_PATHS)
    app.add_middleware(compat.ReferenceErrors)
    api_docs.install(app)
    for module in (images, compat, health):
        app.include_router(module.router)
    return app


def _loaded(settings: Settings) -> Pipeline:
    """The pipeline. What was made so far lives as long as the process: a collection need not go through it, which takes half a
    second with torch and diffusers, and holds every thread.
    """
    pipeline = load(settings.pipeline, settings.model, settings.tuning())
    gc.collect()
    gc.freeze()
    return pipeline


def _lifespan(
    settings: Settings,
    origins: OriginPolicy,
    build: Callable[[], Pipeline] | None,
    on_failure: Callable[[str], None],
    decoder: DecodePool | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        make = build or (lambda: _loaded(settings))
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side)
        metrics = Metrics()
        metrics.registry.register(origins.refused)
        operator_limits = OperatorLimits(settings.max_active, settings.max_batch)
        executor = Executor(make, metrics, operator_limits, queue=settings.queue, on_failure=on_failure)
        metrics.watch(executor)
        watermark = load_watermark(settings.watermark) if settings.watermark else None
        effort = Effort(settings.png_level, settings.webp_method)
        options = EngineOptions(
            limits, settings.codec_threads, settings.replay_bytes, settings.detached_edit_s, effort, watermark
        )
        pool = decoder or DecodePool(
            PoolOptions(processes=settings.codec_threads, cpu_s=settings.decode_cpu_s).for_limits(limits)
        )
        engine = AsyncEngine(executor, metrics, options, pool)
        key = settings.api_key.get_secret_value() if settings.api_key else None
        uploads = ByteBudget(settings.upload_bytes)
        sources = KeptSources(settings.source_cache_bytes)
        app.state.context = Context(executor, engine, metrics, limits, key, settings.keepalive_s, time.time(), uploads, sources)
        executor.start()
        yield
        await asyncio.to_thread(executor.stop, settings.drain_s)
        await engine.close()
        await pool.close()
        await asyncio.to_thread(tracing.close)

    return lifespan
