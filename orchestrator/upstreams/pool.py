"""Editors, thinkers and judges as they are configured now. The mappings are changed in place when the registry's file changes;
sessions under way keep the clients they started with.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import aiohttp

from orchestrator.egress.resolver import NameResolver
from orchestrator.ports.collaborators import Catalogue, Comparer, Editor, EditorCapabilities, Judge, Preparer, Thinker
from orchestrator.upstreams import judges as judge_formats
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.connector import CleanConnector
from orchestrator.upstreams.editor import Asks, HttpEditor, Told
from orchestrator.upstreams.editor_links import EditorLinks
from orchestrator.upstreams.fallback import ComparerWithFallback, EditorWithFallback, with_fallback
from orchestrator.upstreams.http import HttpUpstream, Role, Upstream
from orchestrator.upstreams.liveness import UpstreamHealth
from orchestrator.upstreams.pairwise import PairwiseJudge
from orchestrator.upstreams.registry import (
    EditorSettings,
    JudgeSettings,
    PreparerSettings,
    Registry,
    ThinkerSettings,
    UpstreamSettings,
)
from orchestrator.upstreams.scorer import HttpScorer
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.formats import FORMATS
from services.serving.background import run_forever

log = logging.getLogger(__name__)
_POLL_S: Final = 2.0
_LEARN_AGAIN: Final = 30
"""Polls after which editors that have answered are asked again: they may have been replaced."""
_CONNECT_S: Final = 5.0


class UpstreamObserver(Protocol):
    """Observes the upstreams; metrics implement it."""

    def watch_limit(self, editor: str, limit: AdaptiveLimit) -> None:
        """An editor has a limit now, in place of one it had before."""
        ...

    def upstream_silent(self, role: Role, name: str, silent: bool) -> None:  # noqa: FBT001 - a value
        """Whether an upstream has stopped answering."""
        ...

    def request_unanswered(self, role: Role, name: str) -> None:
        """An upstream did not answer a request."""
        ...

    def thinker_replied(self, outcome: str) -> None:
        """A thinker's reply was parsed: ``ok``, or the kind of failure."""
        ...


class UpstreamPool:
    """The editors, thinkers and judges by name.

    Args:
        read_registry: reads the current configuration; raises `ValueError` or `OSError` if it is invalid.
        client: sends the requests.
        observer: observes limits and replies.
        decoder: decodes pictures.

    Attributes:
        on_capacity: called when an editor may have capacity for another session.
    """

    def __init__(
        self,
        read_registry: Callable[[], Registry],
        client: aiohttp.ClientSession,
        observer: UpstreamObserver,
        decoder: DecodePool,
    ) -> None:
        self._read_registry = read_registry
        self._client = client
        self._observer = observer
        self._decoder = decoder
        self._resolver = NameResolver()
        self._last_error = ""
        self._limit_of: dict[str, tuple[EditorSettings, AdaptiveLimit]] = {}
        self._health_of: dict[tuple[Role, str], tuple[UpstreamSettings, UpstreamHealth]] = {}
        self.editors: dict[str, Editor] = {}
        self.thinkers: dict[str, Thinker] = {}
        self.preparers: dict[str, Preparer] = {}
        self.judges: dict[str, Judge | Comparer] = {}
        self.limits: dict[str, AdaptiveLimit] = {}
        self._told: dict[str, tuple[EditorSettings, Told]] = {}
        """By editor, what it told of itself, and the settings that it had then."""
        self._plain: dict[str, HttpEditor] = {}
        self.on_capacity: Callable[[], None] = lambda: None
        self._configure(read_registry())

    def catalogue(self) -> Catalogue:
        """The editors, thinkers and judges that callers can name; the defaults come first."""
        registry = self._registry
        names = sorted(registry.editors, key=lambda name: name != registry.first_editor)
        thinkers = sorted(registry.thinkers, key=lambda name: name != registry.first_thinker)
        return Catalogue(
            {name: self._capabilities(name, registry.editors[name]) for name in names},
            tuple(thinkers),
            frozenset(
                [name for name, thinker in registry.thinkers.items() if thinker.format == "checklist"]
                + [name for name, judge in registry.judges.items() if judge.format == "checklist"]
            ),
            {alias: name for name in names for alias in registry.editors[name].aliases},
            {
                name: most
                for entries in (registry.thinkers, registry.judges)
                for name in entries
                if (most := _most_images(entries, name)) is not None
            },
            judges=tuple(sorted(registry.judges, key=lambda name: name != registry.default_judge)),
            default_judge=registry.default_judge,
        )

    def judging(self) -> Mapping[str, Judge | Comparer]:
        """Everyone who can be named as a judge: judges and thinkers."""
        return {**self.thinkers, **self.judges}

    def judge_settings(self) -> Mapping[str, ThinkerSettings | JudgeSettings]:
        """What each of them is configured as."""
        return {**self._registry.thinkers, **self._registry.judges}

    async def learn_forever(self) -> None:
        """Ask editors what they take: every one now and then, and one that has not answered soon again."""
        rounds = itertools.count()

        async def learn() -> None:
            await self.learn(again=next(rounds) % _LEARN_AGAIN == 0)
            await asyncio.sleep(_POLL_S)

        await run_forever("learning what editors take", learn, pause_s=_POLL_S)

    async def learn(self, *, again: bool) -> None:
        """Ask them once.

        Args:
            again: also those that have answered before.
        """
        await asyncio.gather(*(self._learn_of(name, again=again) for name in self._registry.editors))

    async def _learn_of(self, name: str, *, again: bool = False) -> None:
        """Ask one editor, if it is configured."""
        settings = self._registry.editors.get(name)
        if settings is None or not (again or self._told_of(name, settings) is None):
            return
        told = await self._plain[name].capabilities()
        if told is not None:
            self._told[name] = (settings, told)

    def _told_of(self, name: str, editor: EditorSettings) -> Told | None:
        """What the editor told, if it is still the same server."""
        known = self._told.get(name)
        same = known is not None and (known[0].url, known[0].model) == (editor.url, editor.model)
        return known[1] if known and same else None

    def prompt_tokens(self, name: str) -> int | None:
        """How many tokens of an instruction an editor and its fallback read, as far as they have told it."""
        return min((each.prompt_tokens for each in self._told_by(name) if each.prompt_tokens), default=None)

    def _told_by(self, name: str) -> list[Told]:
        """What an editor and its fallback have told."""
        editor = self._registry.editors.get(name)
        names = [] if editor is None else [name, *([editor.fallback] if editor.fallback else [])]
        told = (self._told_of(each, self._registry.editors[each]) for each in names)
        return [each for each in told if each is not None]

    def _loras(self, name: str) -> frozenset[str] | None:
        """The LoRAs that an editor and its fallback both take; None if neither has told any."""
        told = [each.loras for each in self._told_by(name) if each.loras is not None]
        return frozenset.intersection(*told) if told else None

    def _capabilities(self, name: str, editor: EditorSettings) -> EditorCapabilities:
        told = self._told_of(name, editor)
        mask = editor.mask if editor.mask is not None else told.mask if told else None
        images = editor.images if editor.images is not None else told.images if told else None
        return EditorCapabilities(
            editor.parameters,
            mask,
            editor.send_seed,
            images,
            editor.fallback,
            self._loras(name),
            preparer=editor.preparer,
            prepare=self._registry.prepares(editor),
            draft=told.draft if told else None,
            previews=told.partial_images > 0 if told else None,
            # A fallback has another picture to show.
            deterministic=bool(told and told.deterministic and editor.fallback is None),
        )

    async def follow(self) -> None:
        """Read the registry and the key files again when they change. An invalid registry is logged, and changes nothing."""
        await run_forever("following the registry", self._poll, pause_s=_POLL_S)

    async def _poll(self) -> None:
        await asyncio.sleep(_POLL_S)
        try:
            found = await asyncio.to_thread(self._read_registry)
            if found == self._registry and found.keys() == self._keys:
                return
            self._configure(found)
        except (ValueError, OSError) as exc:
            if str(exc) != self._last_error:
                self._last_error = str(exc)
                log.error("the registry stays as it was: %s", exc)  # noqa: TRY400 - the message is enough
            return
        self._last_error = ""
        names = [sorted(roles) for roles in (self.editors, self.thinkers, self.judges)]
        log.info("the registry was read again: editors %s; thinkers %s; judges %s", *names)

    def _configure(self, registry: Registry) -> None:
        # Everything that may fail comes before the first change.
        keys = registry.keys()
        limits = {name: self._limit(name, editor) for name, editor in registry.editors.items()}
        editors = {name: self._editor(name, editor, limits[name]) for name, editor in registry.editors.items()}
        thinkers = {name: self._thinker(name, thinker) for name, thinker in registry.thinkers.items()}
        preparers = {name: self._preparer(name, preparer) for name, preparer in registry.preparers.items()}
        judges = {name: self._judge(name, judge) for name, judge in registry.judges.items()}
        self._registry, self._keys = registry, keys
        configured = {("editor", name) for name in registry.editors}
        configured |= {("thinker", name) for name in (*registry.thinkers, *registry.preparers)}
        configured |= {("judge", name) for name in registry.judges}
        for role, name in self._health_of.keys() - configured:
            del self._health_of[role, name]
            self._observer.upstream_silent(role, name, False)
        for mapping in (self.limits, self.editors, self.thinkers, self.preparers, self.judges):
            mapping.clear()
        self.limits.update(limits)
        self.preparers.update(preparers)
        self._plain = editors
        # A fallback's own fallback is not asked in turn.
        for name, editor in registry.editors.items():
            other = editor.fallback
            self.editors[name] = EditorWithFallback(editors[name], editors[other], other) if other else editors[name]
        for name, thinker in registry.thinkers.items():
            other = thinker.fallback
            self.thinkers[name] = with_fallback(thinkers[name], thinkers[other], other) if other else thinkers[name]
        for name, judge in registry.judges.items():
            other = judge.fallback
            self.judges[name] = _judge_with_fallback(judges[name], judges[other], other) if other else judges[name]

    def _limit(self, name: str, editor: EditorSettings) -> AdaptiveLimit:
        """The limit that an editor has already, with what it has measured, if it is still the same pool; otherwise another."""
        known = self._limit_of.get(name)
        if known and (known[0].url, known[0].max_in_flight) == (editor.url, editor.max_in_flight):
            return known[1]
        limit = AdaptiveLimit(fixed=editor.max_in_flight)
        limit.on_capacity = self._may_have_capacity
        self._limit_of[name] = (editor, limit)
        self._observer.watch_limit(name, limit)
        return limit

    def _may_have_capacity(self) -> None:
        # Looked up at each call: `on_capacity` is set after the first limits are made.
        self.on_capacity()

    def _health(self, role: Role, name: str, upstream: UpstreamSettings) -> UpstreamHealth:
        """What is known of an upstream, if it is still the same server."""
        known = self._health_of.get((role, name))
        options = (upstream.url, upstream.first_silence_s, upstream.min_silence_s, upstream.timeout_s)
        if known and (known[0].url, known[0].first_silence_s, known[0].min_silence_s, known[0].timeout_s) == options:
            return known[1]

        def changed(is_open: bool) -> None:  # noqa: FBT001 - its only argument
            log.warning(
                "the %s %s %s", role, name, "does not answer; one request at a time is sent" if is_open else "answers again"
            )
            self._observer.upstream_silent(role, name, is_open)

        health = UpstreamHealth(
            first_s=upstream.first_silence_s,
            min_s=upstream.min_silence_s,
            max_s=upstream.timeout_s,
            on_change=changed,
            on_unanswered=lambda: self._observer.request_unanswered(role, name),
        )
        self._health_of[role, name] = (upstream, health)
        self._observer.upstream_silent(role, name, False)
        return health

    def _editor(self, name: str, editor: EditorSettings, limit: AdaptiveLimit) -> HttpEditor:
        upstream = HttpUpstream("editor", _upstream(editor), self._client, self._health("editor", name, editor), name=name)
        asks = Asks(
            editor.send_seed,
            editor.asks_for_base64,
            editor.send_output_format,
            boxes=partial(self._takes_boxes, name),
            learn=partial(self._learn_of, name),
        )
        return HttpEditor(
            upstream,
            model=editor.model,
            asks=asks,
            links=EditorLinks(editor.url, editor.image_hosts, self._resolver),
            limit=limit,
            decoder=self._decoder,
            told=partial(self._makes_smaller, name),
        )

    def _takes_boxes(self, name: str) -> bool:
        """Whether an editor is handed boxes: configured, and told by its list of models."""
        editor = self._registry.editors.get(name)
        told = None if editor is None or not editor.boxes else self._told_of(name, editor)
        return told is not None and told.boxes

    def _makes_smaller(self, name: str) -> Told:
        """What an editor told, as far as its settings let it answer with smaller pictures."""
        editor = self._registry.editors.get(name)
        told = self._told_of(name, editor) if editor else None
        if editor is None or told is None:
            return Told()
        return told if editor.native_size else replace(told, native_pixels=None)

    def _thinker(self, name: str, thinker: ThinkerSettings) -> HttpThinker | HttpScorer:
        upstream = self._vision_model("thinker", name, thinker)
        return judge_formats.thinker(upstream, thinker, thinker.format, self._observer.thinker_replied, self._decoder)

    def _preparer(self, name: str, preparer: PreparerSettings) -> HttpThinker:
        dialect = Dialect(
            preparer.model,
            FORMATS["json_schema"],
            FORMATS["json_schema"].template(),
            preparer.constraint,
            dict(preparer.rewriter.sampling if preparer.sampling is None else preparer.sampling),
            max_pixels=preparer.max_pixels,
            rewriter=preparer.rewriter,
            rewriting_prompt=preparer.prompt(),
        )
        upstream = self._vision_model("thinker", name, preparer)
        return HttpThinker(upstream, dialect, self._observer.thinker_replied, self._decoder)

    def _judge(self, name: str, judge: JudgeSettings) -> judge_formats.HttpJudge:
        make = judge_formats.MAKERS[judge.format]
        return make(self._vision_model("judge", name, judge), judge, self._observer.thinker_replied, self._decoder)

    def _vision_model(self, role: Role, name: str, settings: ThinkerSettings | JudgeSettings | PreparerSettings) -> HttpUpstream:
        options = replace(_upstream(settings), away_s=settings.away_s)
        return HttpUpstream(role, options, self._client, self._health(role, name, settings), name=name)


def _judge_with_fallback(first: judge_formats.HttpJudge, second: judge_formats.HttpJudge, name: str) -> Judge | Comparer:
    """Two of the same abilities, which the registry checks."""
    if isinstance(first, PairwiseJudge) and isinstance(second, PairwiseJudge):
        return ComparerWithFallback(first, second, name)
    assert not isinstance(first, PairwiseJudge)
    assert not isinstance(second, PairwiseJudge)
    return with_fallback(first, second, name)


def _most_images(entries: Mapping[str, ThinkerSettings] | Mapping[str, JudgeSettings], name: str) -> int | None:
    """Pictures that a thinker or judge and its fallback both take in a request; None for any number."""
    model = entries[name]
    both = (model.images, entries[model.fallback].images if model.fallback else None)
    return min((images for images in both if images is not None), default=None)


def http_client() -> aiohttp.ClientSession:
    """The HTTP client for editors and thinkers."""
    return aiohttp.ClientSession(
        connector=CleanConnector(limit=0),
        # The timeout of a whole call is set by the caller, from the session's deadline.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        # Cookies set for one caller's request must not go out with another's.
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": "EditThinker"},
        # Encoded replies are refused: nobody asks for them, and 5 kB of gzip within gzip are 4 GB.
        auto_decompress=False,
        # A picture, so that reading is not paused and resumed for each piece of it.
        read_bufsize=1024 * 1024,
    )


def _upstream(settings: UpstreamSettings) -> Upstream:
    return Upstream(settings.url, settings.key(), settings.attempts, settings.timeout_s, max_reply=settings.max_reply_bytes)
