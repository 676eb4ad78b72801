"""The composition root: makes a running application from settings. Only this file names concrete implementations."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Literal

import stamina.instrumentation
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from orchestrator.api import (
    errors,
    events,
    export,
    health,
    images,
    models,
    preferences,
    provenance,
    sessions,
    shares,
    sign_in,
    studio,
    training,
    webhooks,
)
from orchestrator.api.access import Access, RateLimitHeaders
from orchestrator.api.context import Context, Waits
from orchestrator.api.fields import Deadlines
from orchestrator.api.intake import Intake
from orchestrator.api.links import Links
from orchestrator.api.live import StreamLimits
from orchestrator.api.marks import Marks
from orchestrator.api.readiness import ReadinessChecks
from orchestrator.api.shutdown import Callers, Shutdown
from orchestrator.api.signing import Signer
from orchestrator.api.transcodes import Transcodes
from orchestrator.egress.resolver import NameResolver
from orchestrator.execution.driver import Driver, DriverOptions
from orchestrator.execution.judge_check import JudgeChecks
from orchestrator.execution.judge_noise import JudgeNoise, NoiseObserver
from orchestrator.execution.made import MadePictures
from orchestrator.execution.performer import Performer
from orchestrator.execution.runner import Replica, Runner
from orchestrator.loop.events import Choosing
from orchestrator.loop.session import SessionBounds
from orchestrator.metrics import Metrics
from orchestrator.ports.collaborators import Catalogue, Comparer, Judge
from orchestrator.ports.stores import Quota
from orchestrator.settings import Settings
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.archive import Archive, Retention
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.clock import RedisClock
from orchestrator.store.connection import client as client_of
from orchestrator.store.connection import listeners
from orchestrator.store.health import StorageHealth
from orchestrator.store.made import RedisMadeLog
from orchestrator.store.notifications import RedisNotifications
from orchestrator.store.preferences import PreferenceStore
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.rates import RedisRateLimiter
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from orchestrator.store.shares import RedisShares
from orchestrator.store.training import TrainingStore
from orchestrator.upstreams.adaptive_limit import AdaptiveLimits
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.webhooks.sender import CHORES, SenderOptions, WebhookSender
from orchestrator.webhooks.storage import WebhookStore
from services.imaging.codec import ImageLimits
from services.imaging.decode_pool import DecodePool, PoolOptions
from services.protocol.images_api import INPUT_FACTOR
from services.serving import api_docs, middleware, tracing
from services.serving.byte_budget import ByteBudget
from services.serving.origins import OriginPolicy

_FORM_OVERHEAD = 4 * 1024 * 1024
_EDITS = "this server edits pictures: send one, with a prompt, to POST /v1/images/edits"
_OTHER_PATHS = {
    "/images/generations": f"{_EDITS}; it makes none from text alone",
    "/images/variations": f"{_EDITS}; for variations, say in the prompt what should differ, with n and strategy=best_of_n",
    "/responses": f"{_EDITS}; it has no Responses API",
    "/chat/completions": f"{_EDITS}; it has no chat of its own (a thinker does, at its own address)",
    "/completions": f"{_EDITS}; it completes no texts",
    "/embeddings": f"{_EDITS}; it makes no embeddings",
    "/files": f"{_EDITS}; it stores no files, so send the picture with the request",
    "/videos": f"{_EDITS}; it makes no videos",
    "/edit": f"{_EDITS}; /edit is a path of the editor's workers",
    "/edits": _EDITS,
    "/images": _EDITS,
}
"""Paths of other APIs that clients of OpenAI's are pointed at, without /v1."""
# Where keys are required:
_TENANT_STREAMS = 1000
_QUOTA_REDIS_BYTES = 256 * 1024**2
_QUOTA_BLOB_BYTES = 100 * 1024**3


def create_app(settings: Settings) -> FastAPI:
    """The orchestrator as an ASGI application; it connects when it starts."""
    # Retries are not logged one by one: their outcome is recorded, logged and counted.
    stamina.instrumentation.set_on_retry_hooks(())
    origins = settings.origins()
    app = FastAPI(
        title="EditThinker Serving",
        version="0.1.0",
        description="Image edits that follow the instruction: edit, critique, refine, repeat.",
        lifespan=_lifespan(settings, origins),
        # FastAPI's own pages load scripts from another server.
        docs_url=None,
        redoc_url=None,
    )
    # The server drains it when it is to stop, so that waiting callers get a response before their connection is closed.
    app.state.shutdown = Shutdown(settings.drain_s)
    # All pictures of a request; in JSON, where they are a third larger, two.
    max_body = settings.max_image_bytes * INPUT_FACTOR + _FORM_OVERHEAD
    middleware.install(app, max_body=max_body, policy=origins, other_paths=_OTHER_PATHS)
    app.add_middleware(RateLimitHeaders)
    errors.install(app)
    api_docs.install(app)
    for module in (
        images,
        sessions,
        shares,
        events,
        export,
        preferences,
        training,
        webhooks,
        models,
        provenance,
        sign_in,
        health,
        studio,
    ):
        app.include_router(module.router)
    return app


def _lifespan(settings: Settings, origins: OriginPolicy):  # type: ignore[no-untyped-def]  # noqa: ANN202 - FastAPI's own type has no short name
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
            app.state.context = await _compose(settings, stack, app.state.shutdown, origins)
            yield

    return lifespan


async def _compose(settings: Settings, stack: contextlib.AsyncExitStack, shutdown: Shutdown, origins: OriginPolicy) -> Context:
    """Make and connect all parts; the stack stops them in reverse order."""
    keys = KeySpace()
    redis, pubsub = await _connected(settings, stack)
    store = RedisSessions(redis, pubsub, keys, _options(settings))
    client = await stack.enter_async_context(http_client())
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    registry.register(origins.refused)
    decoder = DecodePool(_pool_options(settings), metrics)
    stack.push_async_callback(decoder.close)
    metrics.watch_decoder(decoder)
    upstreams = UpstreamPool(settings.collaborators, client, metrics, decoder)
    blobs, clock = (
        ObjectBlobs(settings.blobs, least_free_bytes=settings.blobs_free_bytes),
        RedisClock(store.scripts.clock, metrics.clock_measured),
    )
    await clock.start()
    stack.push_async_callback(clock.stop)
    storage = StorageHealth(store.probe, blobs.probe, settings.redis_full_percent, metrics, store.fsync)
    await storage.start()
    stack.push_async_callback(storage.stop)
    archive = Archive(store, blobs, Retention(settings.redis_retention_s, settings.archive_retention_s))
    made = MadePictures(RedisMadeLog(redis, keys, clock.now, settings.made_retention_s), decoder, metrics.digested)
    stack.push_async_callback(made.close)
    limits, noise = AdaptiveLimits(upstreams.limits), JudgeNoise()
    performer = Performer(
        upstreams.editors,
        upstreams.thinkers,
        blobs,
        clock,
        limits.edit_s,
        upstreams.prompt_tokens,
        decoder,
        preparers=upstreams.preparers,
        judges=upstreams.judges,
        made=made.note,
    )
    webhook_store = WebhookStore(redis, keys, store.scripts, settings.redis_retention_s)
    resolver, bounds = NameResolver(), _bounds(settings)
    driving = DriverOptions(bounds, settings.lease_s / 2)
    webhook_sender = WebhookSender(webhook_store, store, clock, _sender_options(settings, resolver), metrics)
    runner = Runner(
        Replica(f"replica-{secrets.token_hex(6)}", settings.capacity, settings.lease_s / 3, upstreams.judging),
        store,
        lambda claim, log: Driver(claim, store, performer, clock, NoiseObserver(noise, metrics), log, options=driving),
        RedisNotifications(pubsub, keys),
        editors=limits,
        chore=_chores(archive, webhook_sender),
        observer=metrics,
    )
    stack.push_async_callback(webhook_sender.stop)
    upstreams.on_capacity = runner.wake
    metrics.watch(lambda: runner.driving)
    metrics.watch_subscription(lambda: pubsub.connected)
    await _start(runner, stack)
    callers = Callers(store.renew_callers, settings.lease_s / 3)
    stack.callback(asyncio.create_task(callers.renew_forever(), name="callers").cancel)
    stack.callback(callers.close)

    async def others() -> bool:
        return (await store.queue_stats()).replicas > 1

    shutdown.prepare(runner.drain, callers.left, others=others)
    deadlines, limits_of_images, mode = _deadlines(settings), _limits(settings), settings.compatibility
    checks = JudgeChecks(upstreams.judging, upstreams.judge_settings, metrics)

    def catalogue() -> Catalogue:
        known = _with_choosing(upstreams.catalogue(), upstreams.judging(), noise, clock.now(), settings.confirmations)
        return replace(known, unfit=checks.failures()) if settings.judge_check == "refuse" else known

    intake = Intake(store, blobs, clock, catalogue, deadlines, limits_of_images, decoder, resolver, mode, settings.anchors())
    stack.callback(asyncio.create_task(upstreams.learn_forever(), name="capabilities").cancel)
    if settings.judge_check != "off":
        stack.callback(asyncio.create_task(checks.check_forever(), name="judge checks").cancel)
    if settings.registry:
        stack.callback(asyncio.create_task(upstreams.follow(), name="registry").cancel)
    api_keys = ApiKeyStore(redis, keys, clock.now)
    access = Access(api_keys, RedisRateLimiter(redis, keys), settings.keys_required, *_quota(settings), settings.public_url or "")
    return Context(
        store,
        archive,
        blobs,
        clock,
        intake,
        metrics,
        registry,
        lambda: runner.alive() and pubsub.alive(),
        shutdown,
        callers,
        access,
        _links(settings, api_keys, origins),
        webhook_store,
        webhook_sender,
        ReadinessChecks(upstreams.editors, upstreams.thinkers, upstreams.judges),
        StreamLimits(settings.tenant_streams or (_TENANT_STREAMS if settings.keys_required else None)),
        Transcodes(decoder, settings.tenant_transcodes, settings.transcode_cache_bytes),
        _budget(settings.upload_bytes, "uploads", settings, metrics),
        _budget(settings.reply_bytes, "replies", settings, metrics),
        storage,
        PreferenceStore(redis, keys, store.scripts),
        RedisShares(redis, keys, clock.now),
        TrainingStore(redis, keys, clock.now),
        performer.critique_prompt,
        bounds,
        settings.archive_retention_s,
        waits=Waits(settings.reply_starts_s, settings.rejoin_s),
        judge_checks=checks.results,
        marks=_marks(settings, stack, metrics, made),
        made=made.made,
    )


def _marks(settings: Settings, stack: contextlib.AsyncExitStack, metrics: Metrics, made: MadePictures) -> Marks:
    """What marks served pictures. Signing has processes of its own, which end with the stack."""
    credentials = settings.signs_with()
    if credentials is None or not settings.marks:
        return Marks(settings.marks, made=made.note)
    pool = DecodePool(_pool_options(settings))
    stack.push_async_callback(pool.close)
    signer = Signer(pool, credentials, settings.c2pa_failure == "refuse", metrics.signed)
    return Marks(settings.marks, signer, settings.c2pa_names_session, made.note)


def _with_choosing(
    known: Catalogue, judging: Mapping[str, Judge | Comparer], noise: JudgeNoise, now: float, confirmations: int
) -> Catalogue:
    """The catalogue with what judges can do, and what a session that begins now knows of their noise: nothing where single
    scores are to be trusted.
    """
    comparing = frozenset(name for name, judge in judging.items() if isinstance(judge, Comparer))
    scoring = {name for name, judge in judging.items() if isinstance(judge, Judge)}

    def choosing(name: str, tenant: str) -> Choosing | None:
        measured = confirmations and name in scoring
        return noise.choosing(name, now, confirmations=confirmations, tenant=tenant) if measured else None

    return replace(known, comparing=comparing, not_scoring=frozenset(judging.keys() - scoring), choosing=choosing)


def _budget(total: int, what: Literal["uploads", "replies"], settings: Settings, metrics: Metrics) -> ByteBudget:
    """Where tenants have keys, none of them holds more than half."""
    budget = ByteBudget(total, total // 2 if settings.keys_required else None, what=what)
    metrics.watch_bytes(what, budget)
    return budget


async def _start(runner: Runner, stack: contextlib.AsyncExitStack) -> None:
    await runner.start()
    stack.push_async_callback(runner.stop)
    # Objects that live as long as the process are taken out of garbage collection.
    gc.collect()
    gc.freeze()
    # A full collection pauses all callers, longer the more of them wait; little here is cyclic garbage.
    gc.set_threshold(10_000, 20, 100)


async def _connected(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[Redis, PubSubFanout]:
    address = settings.redis()
    redis = client_of(address)
    stack.push_async_callback(redis.aclose)
    pubsub = PubSubFanout(listeners(address))
    await pubsub.start()
    stack.push_async_callback(pubsub.stop)
    return redis, pubsub


def _deadlines(settings: Settings) -> Deadlines:
    return Deadlines(settings.default_deadline_s, settings.review_deadline_s, settings.max_deadline_s, settings.call_deadline_s)


def _options(settings: Settings) -> SessionsOptions:
    return SessionsOptions(
        lease_s=settings.lease_s,
        most_unfinished=settings.max_unfinished,
        tenant_cap=settings.tenant_cap,
        retention_s=settings.redis_retention_s,
        replicas=settings.redis_wait_replicas,
        replicas_s=settings.redis_wait_s,
    )


def _quota(settings: Settings) -> tuple[Quota, int | None]:
    """The default quota of a tenant, and its bytes in Redis if that has none. Bytes are bounded where there may be strangers."""
    strangers = settings.keys_required
    quota = Quota(
        settings.quota_rate,
        settings.quota_unfinished,
        settings.quota_editor_s_per_day,
        settings.quota_redis_bytes,
        settings.quota_blob_bytes or (_QUOTA_BLOB_BYTES if strangers else None),
    )
    return quota, _QUOTA_REDIS_BYTES if strangers else None


def _bounds(settings: Settings) -> SessionBounds:
    # Feedback is one event or two; as often as there may be turns is enough.
    turns = settings.session_turns
    return SessionBounds(turns, turns, settings.session_log_bytes, settings.session_blob_bytes)


def _limits(settings: Settings) -> ImageLimits:
    return ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)


def _pool_options(settings: Settings) -> PoolOptions:
    options = PoolOptions(processes=settings.decode_processes, cpu_s=settings.decode_cpu_s, tenant_jobs=settings.tenant_decodes)
    return options.for_limits(_limits(settings))


def _sender_options(settings: Settings, resolver: NameResolver) -> SenderOptions:
    return SenderOptions(settings.webhook_timeout_s, settings.webhook_time_scale, settings.webhook_allow_private, resolver)


def _chores(archive: Archive, webhook_sender: WebhookSender) -> Callable[[str], Awaitable[bool]]:
    """Does a chore with the part that it belongs to; True once it is done."""

    async def chore(name: str) -> bool:
        if name.partition(":")[0] in CHORES:
            return await webhook_sender.chore(name)
        await archive.chore(name)
        return True

    return chore


def _links(settings: Settings, keys: ApiKeyStore, origins: OriginPolicy) -> Links:
    own = settings.url_secret

    async def secret() -> bytes:
        return own.get_secret_value().encode() if own else await keys.shared_secret("links")

    return Links(secret, settings.url_ttl_s, settings.keys_required, settings.public_url, origins.knows)
