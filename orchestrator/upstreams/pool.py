"""Editors and thinkers as they are configured now. What is held on to elsewhere are these very mappings: they change in place,
between two requests, when the registry's file does. What is under way goes on with what it began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from orchestrator.api.fields import Catalogue, EditorTakes
from orchestrator.metrics import Metrics
from orchestrator.ports import Editor, Thinker
from orchestrator.settings import Settings
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.fallback import EditorWithFallback, ThinkerWithFallback
from orchestrator.upstreams.http import HttpUpstream, Upstream
from orchestrator.upstreams.registry import EditorSettings, Registry, ThinkerSettings, UpstreamSettings
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.protocol.critique.formats import FORMATS
from services.serving.background import run_forever

log = logging.getLogger(__name__)
_LOOK_S = 2.0


class UpstreamPool:
    """The collaborators by name.

    Args:
        settings: where they are configured.
        client: what they are asked with.
        telemetry: is told how they do.

    Attributes:
        on_room: called when an editor may have room for another session.
    """

    def __init__(self, settings: Settings, client: httpx.AsyncClient, telemetry: Metrics) -> None:
        self._settings = settings
        self._client = client
        self._telemetry = telemetry
        self._complaint = ""
        self._gate_of: dict[str, tuple[EditorSettings, AdaptiveLimit]] = {}
        self.editors: dict[str, Editor] = {}
        self.thinkers: dict[str, Thinker] = {}
        self.gates: dict[str, AdaptiveLimit] = {}
        self.on_room: Callable[[], None] = lambda: None
        self._use(settings.collaborators())

    def catalogue(self) -> Catalogue:
        """What callers may ask for; the defaults come first."""
        registry, settings = self._registry, self._settings
        names = sorted(registry.editors, key=lambda name: name != registry.first_editor)
        thinkers = sorted(registry.thinkers, key=lambda name: name != registry.first_thinker)
        return Catalogue(
            {name: _takes(registry.editors[name]) for name in names},
            tuple(thinkers),
            settings.default_deadline_s,
            settings.review_deadline_s,
            settings.max_deadline_s,
            frozenset(name for name, thinker in registry.thinkers.items() if thinker.format == "checklist"),
        )

    async def follow(self) -> None:
        """Read the registry's file, and those of the keys, again whenever they change; what is wrong with them is logged, and
        nothing changes.
        """
        await run_forever("following the registry", self._look, pause_s=_LOOK_S)

    async def _look(self) -> None:
        await asyncio.sleep(_LOOK_S)
        try:
            found = await asyncio.to_thread(self._settings.collaborators)
            if found == self._registry and found.keys() == self._keys:
                return
            self._use(found)
        except (ValueError, OSError) as exc:
            if str(exc) != self._complaint:
                self._complaint = str(exc)
                log.error("the registry stays as it was: %s", exc)  # noqa: TRY400 - the message says it all
            return
        self._complaint = ""
        log.info("the registry was read again: editors %s; thinkers %s", sorted(self.editors), sorted(self.thinkers))

    def _use(self, registry: Registry) -> None:
        """Make everything, which may fail, before anything changes."""
        keys = registry.keys()
        gates = {name: self._gate(name, editor) for name, editor in registry.editors.items()}
        alone = {name: self._editor(editor, gates[name]) for name, editor in registry.editors.items()}
        judges = {name: self._thinker(thinker) for name, thinker in registry.thinkers.items()}
        self._registry, self._keys = registry, keys
        for held in (self.gates, self.editors, self.thinkers):
            held.clear()
        self.gates.update(gates)
        # One's fallback is asked alone: its own is not asked in turn.
        for name, editor in registry.editors.items():
            other = editor.fallback
            self.editors[name] = EditorWithFallback(alone[name], alone[other], other) if other else alone[name]
        for name, thinker in registry.thinkers.items():
            other = thinker.fallback
            self.thinkers[name] = ThinkerWithFallback(judges[name], judges[other], other) if other else judges[name]

    def _gate(self, name: str, editor: EditorSettings) -> AdaptiveLimit:
        """The gate that an editor has already, if it is still the same pool; what was found out about it stays."""
        known = self._gate_of.get(name)
        if known and (known[0].url, known[0].max_in_flight) == (editor.url, editor.max_in_flight):
            return known[1]
        gate = AdaptiveLimit(fixed=editor.max_in_flight)
        gate.on_room = self._may_have_room
        self._gate_of[name] = (editor, gate)
        self._telemetry.watch_gate(name, gate)
        return gate

    def _may_have_room(self) -> None:
        # Looked up when it is called: it is set after the first gates are made.
        self.on_room()

    def _editor(self, editor: EditorSettings, gate: AdaptiveLimit) -> HttpEditor:
        upstream = HttpUpstream("editor", _upstream(editor), self._client)
        return HttpEditor(upstream, model=editor.model, send_seed=editor.send_seed, gate=gate)

    def _thinker(self, thinker: ThinkerSettings) -> HttpThinker:
        upstream = HttpUpstream("thinker", replace(_upstream(thinker), away_s=thinker.away_s), self._client)
        dialect = Dialect(
            thinker.model,
            FORMATS[thinker.format],
            thinker.prompt(),
            thinker.constraint,
            dict(thinker.sampling),
            thinker.samples,
            thinker.max_pixels,
        )
        return HttpThinker(upstream, dialect, self._telemetry.replied)


def http_client() -> httpx.AsyncClient:
    """What collaborators are asked with."""
    # aiohttp carries the bytes: a megapixel reply costs half of what httpx's own transport takes for it.
    transport = AiohttpTransport(client=_session)
    # How long an answer may take is decided per call, from the session's deadline.
    timeout = httpx.Timeout(None, connect=5.0)
    return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def _session() -> aiohttp.ClientSession:
    # One caller's cookies must not go out with another's request.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


def _upstream(settings: UpstreamSettings) -> Upstream:
    return Upstream(settings.url, settings.key(), settings.attempts, settings.timeout_s)


def _takes(editor: EditorSettings) -> EditorTakes:
    return EditorTakes(editor.parameters, editor.mask, editor.send_seed)
