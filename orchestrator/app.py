"""The composition root: settings in, a running application out. The only file that names concrete parts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import httpx
import stamina.instrumentation
from fastapi import FastAPI
from httpx_aiohttp import AiohttpTransport
from prometheus_client import CollectorRegistry

from orchestrator.api import errors, events, export, health, images, sessions
from orchestrator.api.context import Context
from orchestrator.api.fields import Catalogue, EditorTakes
from orchestrator.api.intake import Intake
from orchestrator.drive.driver import Driver
from orchestrator.drive.editor import HttpEditor
from orchestrator.drive.fallback import WithFallback
from orchestrator.drive.gate import Gate
from orchestrator.drive.gates import Gates
from orchestrator.drive.performer import Performer
from orchestrator.drive.runner import Replica, Runner
from orchestrator.drive.thinker import Dialect, HttpThinker
from orchestrator.drive.upstream import HttpUpstream, Upstream
from orchestrator.ports import Claim, Recorded, Thinker
from orchestrator.settings import EditorSettings, Settings, ThinkerSettings, UpstreamSettings
from orchestrator.store.archive import Archive, Retention, Swept
from orchestrator.store.archive import sweep as sweep_folders
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.connect import client as client_of
from orchestrator.store.connect import listeners, parse
from orchestrator.store.feed import Feed
from orchestrator.store.scripts import Keys
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from orchestrator.store.wakes import RedisWakes
from orchestrator.telemetry import Telemetry
from services.wire import asgi
from services.wire.formats import FORMATS
from services.wire.images import ImageLimits

_FORM_OVERHEAD = 4 * 1024 * 1024


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
    asgi.install(app, max_body=settings.max_image_bytes * 3 + _FORM_OVERHEAD)
    errors.install(app)
    for module in (images, sessions, events, export, health):
        app.include_router(module.router)
    return app


def _lifespan(settings: Settings):  # type: ignore[no-untyped-def]  # noqa: ANN202 - FastAPI's own type has no short name
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            app.state.context = await _compose(settings, stack, app.state.stopping)
            yield

    return lifespan


async def _compose(settings: Settings, stack: contextlib.AsyncExitStack, stopping: asyncio.Event) -> Context:
    """Connect everything; what was started is stopped by the stack, in reverse order."""
    keys = Keys()
    address = parse(settings.redis_url)
    redis = client_of(address)
    stack.push_async_callback(redis.aclose)
    feed = Feed(listeners(address))
    await feed.start()
    stack.push_async_callback(feed.stop)
    options = SessionsOptions(lease_s=settings.lease_s, most_unfinished=settings.max_unfinished, tenant_cap=settings.tenant_cap)
    store = RedisSessions(redis, feed, keys, options)
    client = await stack.enter_async_context(_http())
    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    gates = {name: Gate(fixed=editor.max_in_flight) for name, editor in settings.editors.items()}
    editors = {name: _editor(editor, client, gates[name]) for name, editor in settings.editors.items()}
    blobs, clock = ObjectBlobs(settings.blobs), SystemClock()
    archive = Archive(store, blobs, Retention(settings.retention_s, settings.keep_s))
    thinkers = _thinkers(settings, client, telemetry)
    performer = Performer(editors, thinkers, blobs, clock)

    def drive(claim: Claim, log: list[Recorded]) -> Driver:
        return Driver(claim, store, performer, clock, telemetry, log)

    runner = Runner(
        Replica(f"replica-{secrets.token_hex(6)}", settings.capacity, settings.lease_s / 3),
        store,
        drive,
        RedisWakes(feed, keys),
        rooms=Gates(gates),
        chore=archive.chore,
        watch=telemetry,
    )
    for gate in gates.values():
        gate.on_room = runner.nudge
    telemetry.watch(gates, lambda: runner.driving)
    await runner.start()
    stack.push_async_callback(runner.stop)
    # What lives as long as the process need not be looked at by every garbage collection.
    gc.collect()
    gc.freeze()
    limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    intake = Intake(store, blobs, clock, _catalogue(settings), limits)

    def driving() -> bool:
        return runner.alive() and feed.alive()

    return Context(store, archive, blobs, clock, intake, editors, thinkers, telemetry, registry, driving, stopping)


async def sweep(settings: Settings, *, older_s: float, remove: bool) -> Swept:
    """Find, and remove, folders of the blob store whose session was never made."""
    address = parse(settings.redis_url)
    async with contextlib.AsyncExitStack() as stack:
        redis = client_of(address)
        stack.push_async_callback(redis.aclose)
        sessions = RedisSessions(redis, Feed(listeners(address)), Keys())
        return await sweep_folders(sessions, ObjectBlobs(settings.blobs), before=time.time() - older_s, remove=remove)


def _session() -> aiohttp.ClientSession:
    # One caller's cookies must not go out with another's request.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


def _http() -> httpx.AsyncClient:
    # aiohttp carries the bytes: a megapixel reply costs half of what httpx's own transport takes for it.
    transport = AiohttpTransport(client=_session)
    # How long an answer may take is decided per call, from the session's deadline.
    timeout = httpx.Timeout(None, connect=5.0)
    return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def _upstream(settings: UpstreamSettings) -> Upstream:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Upstream(settings.url, key, settings.attempts, settings.timeout_s)


def _editor(settings: EditorSettings, client: httpx.AsyncClient, gate: Gate) -> HttpEditor:
    upstream = HttpUpstream("editor", _upstream(settings), client)
    return HttpEditor(upstream, model=settings.model, send_seed=settings.send_seed, gate=gate)


def _thinkers(settings: Settings, client: httpx.AsyncClient, telemetry: Telemetry) -> dict[str, Thinker]:
    """Every thinker by its name, with its fallback behind it (that one's own fallback is not asked in turn)."""
    alone: dict[str, Thinker] = {name: _thinker(thinker, client, telemetry) for name, thinker in settings.thinkers.items()}
    fallbacks = {name: thinker.fallback for name, thinker in settings.thinkers.items() if thinker.fallback is not None}
    return alone | {name: WithFallback(alone[name], alone[other], other) for name, other in fallbacks.items()}


def _thinker(settings: ThinkerSettings, client: httpx.AsyncClient, telemetry: Telemetry) -> HttpThinker:
    upstream = HttpUpstream("thinker", replace(_upstream(settings), away_s=settings.away_s), client)
    dialect = Dialect(
        settings.model,
        FORMATS[settings.format],
        settings.prompt(),
        settings.constraint,
        dict(settings.sampling),
        settings.samples,
        settings.max_pixels,
    )
    return HttpThinker(upstream, dialect, telemetry.replied)


def _takes(editor: EditorSettings) -> EditorTakes:
    return EditorTakes(editor.parameters, editor.mask, editor.send_seed)


def _catalogue(settings: Settings) -> Catalogue:
    names = sorted(settings.editors, key=lambda name: name != settings.first_editor)
    thinkers = sorted(settings.thinkers, key=lambda name: name != settings.first_thinker)
    editors = {name: _takes(settings.editors[name]) for name in names}
    return Catalogue(
        editors,
        tuple(thinkers),
        settings.default_deadline_s,
        settings.review_deadline_s,
        settings.max_deadline_s,
        frozenset(name for name, thinker in settings.thinkers.items() if thinker.format == "checklist"),
    )
