"""The export: sessions that may be used for training, through the public API, into the files of a trainer.

The server leaves out what is not allowed, so nothing of that arrives here. Sessions come oldest first; the requests of their
critiques, with their pictures, are fetched a few ahead, and written in order. Memory is bounded by those and one row group.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from editthinker.client import APIStatusError, ConflictError, EditThinker, NotFoundError, PermissionDeniedError
from evaluation.trajectories.critiques import Critique, Document, critiques_of, key_of, without_repeats
from evaluation.trajectories.layouts import Exchange, Form, MarkInTextError, pair_row, row, separated
from evaluation.trajectories.pairs import Pair, Side, pair_of_vote, pairs_of
from evaluation.trajectories.pictures import UnknownPictureError, stripped
from evaluation.trajectories.shards import Cursor, Manifest, Shards, split_of

_REQUESTS: Final = 8
"""At a time."""
_AHEAD: Final = 2 * _REQUESTS
"""Critiques that are fetched before they are written, so that one that is slow does not stop the others; each holds the pictures
of one request.
"""
_CLOCKS_S: Final = 1.0
"""By which the clocks of replicas may differ: what was recorded before another may say that it was created after that."""
_PART_BYTES: Final = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Filters:
    """What is exported.

    Attributes:
        since, until: creation, in Unix seconds; `until` is exclusive.
        status: how sessions ended; None is any.
        least_gain: points of the semantic score that a critique's next turn gained at least; of a pair, that the scores of the
            better picture are higher.
        most_disagreement: points of 10 by which the critiques of a candidate differ at most; of a pair, by which the scores may
            speak for the other picture.
    """

    since: float | None = None
    until: float | None = None
    status: str | None = None
    least_gain: float | None = None
    most_disagreement: float | None = None

    def takes(self, critique: Critique) -> bool:
        """Whether a critique is exported."""
        if self.least_gain is not None and (critique.gain is None or critique.gain < self.least_gain):
            return False
        return self.most_disagreement is None or critique.candidate.disagreement <= self.most_disagreement

    def takes_pair(self, pair: Pair) -> bool:
        """Whether a pair is exported."""
        gap = pair.gap()
        if self.least_gain is not None and (gap is None or gap < self.least_gain):
            return False
        return self.most_disagreement is None or gap is None or gap >= -self.most_disagreement


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """An export.

    Attributes:
        splits: shares by name, which add up to 1.
        licence: of the rows whose session names none in its metadata (`licence`).
        ids: whether rows tell the session, its tenant, its user, its metadata and its time.
        repeats: whether further critiques of the same picture are exported, too.
        part_bytes: bytes after which files are completed.
    """

    form: Form
    filters: Filters = field(default_factory=Filters)
    splits: Mapping[str, float] = field(default_factory=lambda: {"train": 1.0})
    licence: str = ""
    ids: bool = False
    repeats: bool = False
    part_bytes: int = _PART_BYTES

    def stored(self, server: str, tenant: str | None) -> dict[str, Any]:
        """What must be the same to continue."""
        limits = self.filters
        found = {"form": self.form, "server": server, "tenant": tenant, "since": limits.since, "until": limits.until}
        found |= {"status": limits.status, "gain": limits.least_gain, "agreement": limits.most_disagreement}
        return {**found, "splits": dict(self.splits), "licence": self.licence, "ids": self.ids, "repeats": self.repeats}


def export(
    client: EditThinker,
    folder: Path,
    options: ExportOptions,
    *,
    tenant: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Export into a folder, or continue there. What is complete already is not read again.

    Args:
        client: of the server; for a tenant, one that acts for it.
        folder: of the files and the manifest.
        options: the form, the filters and the rest; the same as before to continue.
        tenant: whose sessions they are, if not the key's.
        progress: is told the number of rows so far.

    Raises:
        ExportConflictError: for a folder of something else, or of an export with other options.
        APIError: when the server fails or the connection breaks; repeat the export to continue.
    """
    shards = Shards(folder, options.form, options.stored(client.base_url, tenant), options.part_bytes, ids=options.ids)
    with closing(shards), ThreadPoolExecutor(_REQUESTS, "export") as pool:
        if not shards.manifest.complete:
            _Export(client, options, shards, pool, progress).run()
    return shards.manifest


@dataclass(frozen=True, slots=True)
class _Task:
    """What to do next, in order: write a row, count what is left out, or note that a session or vote is over."""

    key: bytes = b""
    split: str = ""
    make: Callable[[], Any] | None = None
    skipped: str = ""
    over: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class _Export:
    client: EditThinker
    options: ExportOptions
    shards: Shards
    pool: ThreadPoolExecutor
    progress: Callable[[int], None]

    def run(self) -> None:
        """Read and write what is not complete yet."""
        cursor = self.shards.manifest.cursor
        if cursor.phase == "sessions":
            self._write(self._of_sessions(cursor))
            cursor = Cursor("votes")
            self.shards.begin_phase("votes")
        if self.options.form == "pairs":
            self._write(self._of_votes(cursor))
        self.shards.complete_part(last=True)
        self.progress(self.shards.rows)

    # --- what there is to write ---------------------------------------------------------------------------------------

    def _of_sessions(self, cursor: Cursor) -> Generator[_Task]:
        limits = self.options.filters
        documents = self.client.sessions.export(
            since=self._since(cursor), until=limits.until, status=limits.status, training="allowed"
        )
        for document in _new(documents, cursor):
            yield from self._of_pairs(document) if self.options.form == "pairs" else self._of_critiques(document)
            yield _Task(over=(document["created_at"], document["id"]))

    def _since(self, cursor: Cursor) -> float | None:
        return self.options.filters.since if cursor.since is None else cursor.since - _CLOCKS_S

    def _of_critiques(self, document: Document) -> Generator[_Task]:
        found = critiques_of(document)
        for critique in found if self.options.repeats else without_repeats(found):
            key = key_of(document, critique)
            if self.options.repeats:
                key = hashlib.sha256(key + f"{document['id']}/{critique.seq}".encode()).digest()[:16]
            if critique.repaired:
                # Its reply answers a complaint about another reply, which was not kept.
                yield _Task(skipped="repaired")
            elif not self.options.filters.takes(critique):
                yield _Task(skipped="filtered")
            elif self.shards.has(key):
                yield _Task(skipped="repeated")
            else:
                split = split_of(document["events"][0]["source"]["sha256"], self.options.splits)
                yield _Task(key, split, self._fetch(document, critique, key, split))

    def _fetch(self, document: Document, critique: Critique, key: bytes, split: str) -> Callable[[], Exchange]:
        """Fetches the request of a critique. It keeps what a row needs of the session, and not the session."""
        created, name = document["events"][0], document["id"]
        metadata = created.get("metadata") or {}
        licence = metadata.get("licence") or self.options.licence
        instruction, ids, alias = created["instruction"], self._ids(document), self._alias(name)

        def fetch() -> Exchange:
            request = self.client.sessions.critique(name, critique.seq)
            messages, pictures = separated(request.messages)
            return Exchange(key.hex(), critique, instruction, messages, pictures, request.reply, alias, licence, split, ids)

        return fetch

    def _of_pairs(self, document: Document) -> Generator[_Task]:
        created = document["events"][0]
        licence = (created.get("metadata") or {}).get("licence") or self.options.licence
        for pair in pairs_of(document):
            yield from self._of_pair(pair, licence, self._ids(document))

    def _of_votes(self, cursor: Cursor) -> Generator[_Task]:
        votes = self.client.preferences.export(since=self._since(cursor), until=self.options.filters.until, training="allowed")
        for line in _new(votes, cursor):
            ids = {"tenant": line["tenant"]} if self.options.ids else {}
            yield from self._of_pair(pair_of_vote(line), self.options.licence, ids)
            yield _Task(over=(line["created_at"], line["id"]))

    def _of_pair(self, pair: Pair, licence: str, ids: Mapping[str, Any]) -> Generator[_Task]:
        if not self.options.filters.takes_pair(pair):
            yield _Task(skipped="filtered")
        elif self.shards.has(pair.key):
            yield _Task(skipped="repeated")
        else:
            tenant = {name: value for name, value in ids.items() if name == "tenant"}

            def make() -> dict[str, Any]:
                source = stripped(self.client.sessions.source(pair.left.session))
                pictures = (source, self._picture(pair.left, source), self._picture(pair.right, source))
                return pair_row(pair, pictures, licence, self._alias, tenant)

            yield _Task(pair.key, split_of(pair.source, self.options.splits), make)

    def _picture(self, side: Side, source: bytes) -> bytes:
        if side.turn is None:
            return source
        return stripped(self.client.sessions.image(side.session, turn=side.turn, candidate=side.number))

    def _alias(self, session_id: str) -> str:
        """A session's name in the data: its id, or a digest by which the operator alone can find it."""
        return session_id if self.options.ids else hashlib.sha256(session_id.encode()).hexdigest()[:16]

    def _ids(self, document: Document) -> dict[str, Any]:
        if not self.options.ids:
            return {}
        created = document["events"][0]
        found = {"tenant": document["tenant"], "created_at": document["created_at"], "user": created.get("user")}
        return {**found, "metadata": json.dumps(created.get("metadata") or {}, ensure_ascii=False)}

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, tasks: Generator[_Task]) -> None:
        waiting: deque[tuple[_Task, Future[Any] | None]] = deque()
        try:
            with closing(tasks):
                for task in tasks:
                    waiting.append((task, self.pool.submit(task.make) if task.make else None))
                    while sum(each is not None for _, each in waiting) >= _AHEAD or len(waiting) > 4 * _AHEAD:
                        self._take(*waiting.popleft())
            while waiting:
                self._take(*waiting.popleft())
        finally:
            for _, future in waiting:
                if future:
                    future.cancel()

    def _take(self, task: _Task, future: Future[Any] | None) -> None:
        if task.over:
            self.shards.passed(*task.over)
            self.progress(self.shards.rows)
        elif task.skipped:
            self.shards.skip(task.skipped)
        if future is not None:
            self._write_row(task, future)

    def _write_row(self, task: _Task, future: Future[Any]) -> None:
        if self.shards.has(task.key):
            # Written while this one was fetched.
            self.shards.skip("repeated")
            return
        try:
            made = future.result()
            made = row(self.options.form, made, self.shards.rows) if isinstance(made, Exchange) else made
        except (PermissionDeniedError, NotFoundError, ConflictError, MarkInTextError, UnknownPictureError) as exc:
            self.shards.skip(_why_left_out(exc))
        else:
            self.shards.write(task.split, task.key, made)


def _why_left_out(exc: Exception) -> str:
    """In a word. What is no reason to go on is raised again."""
    if isinstance(exc, MarkInTextError):
        return "mark_in_text"
    if isinstance(exc, UnknownPictureError):
        return "unknown_picture"
    reasons = {"training_denied": "withdrawn", "prompt_changed": "prompt_changed", "session_not_found": "deleted"}
    reasons |= {"image_not_found": "deleted", "critique_not_found": "deleted"}
    if isinstance(exc, APIStatusError) and exc.code in reasons:
        return reasons[exc.code]
    raise exc


def _new(lines: Iterable[dict[str, Any]], cursor: Cursor) -> Iterator[dict[str, Any]]:
    """The lines that were not read before."""
    known = frozenset(cursor.ids)
    return (line for line in lines if line["id"] not in known)
