"""The composition root: settings in, a running application out. The only file that names concrete parts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import stamina.instrumentation
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from orchestrator.api import errors, events, export, health, images, sessions, webhooks
from orchestrator.api.access import Access
from orchestrator.api.context import Context
from orchestrator.api.intake import Intake
from orchestrator.api.links import Links
from orchestrator.api.live import Streams
from orchestrator.api.readiness import Checks
from orchestrator.egress.lookups import Lookups
from orchestrator.execution.driver import Driver
from orchestrator.execution.performer import Performer
from orchestrator.execution.runner import Replica, Runner
from orchestrator.metrics import Metrics
from orchestrator.ports import Quota
from orchestrator.settings import Settings
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.archive import Archive, Retention
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.connection import client as client_of
from orchestrator.store.connection import listeners, parse
from orchestrator.store.notifications import RedisNotifications
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.rates import RedisRateLimiter
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from orchestrator.upstreams.adaptive_limits import AdaptiveLimits
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.webhooks.sender import CHORES, Sending, Webhooks
from orchestrator.webhooks.storage import WebhookStore
from services.imaging.codec import ImageLimits
from services.serving import middleware, tracing

_FORM_OVERHEAD = 4 * 1024 * 1024
_STREAMS = 1000  # of one tenant, where there are several


class SystemClock:
    """`orchestrator.ports.Clock`: this machine's time."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()


def create_app(settings: Settings) -> FastAPI:
    """The orchestrator as an ASGI application; it connects when it starts."""
    # A retry is no event of its own: what comes of it is recorded, logged and counted.
    stamina.instrumentation.set_on_retry_hooks(())
    app = FastAPI(
        title="EditThinker Serving",
        version="0.1.0",
        description="Image edits that follow the instruction: edit, critique, refine, repeat.",
        lifespan=_lifespan(settings),
    )
    # Set by the server when it is told to go, so that callers who wait are answered before they are cut off.
    app.state.stopping = asyncio.Event()
    # An image twice (source and mask), as base64 in JSON at worst.
    middleware.install(app, max_body=settings.max_image_bytes * 3 + _FORM_OVERHEAD)
    errors.install(app)
    for module in (images, sessions, events, export, webhooks, health):
        app.include_router(module.router)
    return app


def _lifespan(settings: Settings):  # type: ignore[no-untyped-def]  # noqa: ANN202 - FastAPI's own type has no short name
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
            app.state.context = await _compose(settings, stack, app.state.stopping)
            yield

    return lifespan


async def _compose(settings: Settings, stack: contextlib.AsyncExitStack, stopping: asyncio.Event) -> Context:
    """Connect everything; what was started is stopped by the stack, in reverse order."""
    keys = KeySpace()
    redis, feed = await _connected(settings, stack)
    store = RedisSessions(redis, feed, keys, _options(settings))
    client = await stack.enter_async_context(http_client())
    registry = CollectorRegistry()
    telemetry = Metrics(registry)
    backends = UpstreamPool(settings, client, telemetry)
    blobs, clock = ObjectBlobs(settings.blobs), SystemClock()
    archive = Archive(store, blobs, Retention(settings.redis_retention_s, settings.archive_retention_s))
    rooms = AdaptiveLimits(backends.gates)
    performer = Performer(backends.editors, backends.thinkers, blobs, clock, rooms.edit_s)
    kept = WebhookStore(redis, keys, store.scripts, settings.redis_retention_s)
    lookups = Lookups()
    told = Webhooks(kept, store, clock, _sending(settings, lookups), telemetry)
    runner = Runner(
        Replica(f"replica-{secrets.token_hex(6)}", settings.capacity, settings.lease_s / 3),
        store,
        lambda claim, log: Driver(claim, store, performer, clock, telemetry, log),
        RedisNotifications(feed, keys),
        rooms=rooms,
        chore=_chores(archive, told),
        watch=telemetry,
    )
    stack.push_async_callback(told.stop)
    backends.on_room = runner.nudge
    telemetry.watch(lambda: runner.driving)
    await _start(runner, stack)
    intake = Intake(store, blobs, clock, backends.catalogue, _limits(settings), lookups=lookups)
    if settings.registry:
        stack.callback(asyncio.create_task(backends.follow(), name="registry").cancel)
    api_keys = ApiKeyStore(redis, keys)
    quota = Quota(settings.quota_rate, settings.quota_unfinished, settings.quota_editor_s_per_day)
    access = Access(api_keys, RedisRateLimiter(redis, keys), settings.keys_required, quota)
    return Context(
        store,
        archive,
        blobs,
        clock,
        intake,
        telemetry,
        registry,
        lambda: runner.alive() and feed.alive(),
        stopping,
        access,
        _links(settings, api_keys),
        kept,
        told,
        Checks(backends.editors, backends.thinkers),
        Streams(settings.tenant_streams or (_STREAMS if settings.keys_required else None)),
    )


async def _start(runner: Runner, stack: contextlib.AsyncExitStack) -> None:
    await runner.start()
    stack.push_async_callback(runner.stop)
    # What lives as long as the process need not be looked at by every garbage collection.
    gc.collect()
    gc.freeze()
    # A full collection takes the longer the more callers wait, and holds all of them up; little here is garbage in circles.
    gc.set_threshold(10_000, 20, 100)


async def _connected(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[Redis, PubSubFanout]:
    address = parse(settings.redis_url)
    redis = client_of(address)
    stack.push_async_callback(redis.aclose)
    feed = PubSubFanout(listeners(address))
    await feed.start()
    stack.push_async_callback(feed.stop)
    return redis, feed


def _options(settings: Settings) -> SessionsOptions:
    return SessionsOptions(lease_s=settings.lease_s, most_unfinished=settings.max_unfinished, tenant_cap=settings.tenant_cap)


def _limits(settings: Settings) -> ImageLimits:
    return ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)


def _sending(settings: Settings, lookups: Lookups) -> Sending:
    return Sending(settings.webhook_timeout_s, settings.webhook_time_scale, settings.webhook_allow_private, lookups)


def _chores(archive: Archive, told: Webhooks) -> Callable[[str], Awaitable[bool]]:
    """Whose work each chore is; whether it is done."""

    async def chore(name: str) -> bool:
        if name.partition(":")[0] in CHORES:
            return await told.chore(name)
        await archive.chore(name)
        return True

    return chore


def _links(settings: Settings, keys: ApiKeyStore) -> Links:
    own = settings.url_secret

    async def secret() -> bytes:
        return own.get_secret_value().encode() if own else await keys.shared_secret("links")

    return Links(secret, settings.url_ttl_s, settings.keys_required, settings.public_url)
