"""Finished sessions, beyond Redis: each is one JSON document with every event, in its folder beside its images.

archive   write the document, drop what crashed tries left in the folder, then let the log leave Redis after a while
forget    at the end of the keeping time: as if the session were deleted
purge     remove what a deleted session left in the blob store

These chores may be cut off anywhere and are done again from the start. A tenant's index decides whether a session exists:
it loses the entry in the same step in which a session is deleted, and without an entry no document is read.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError

from orchestrator.loop.events import load
from orchestrator.loop.session import CorruptLogError, fold
from orchestrator.ports import Folders, PortError, Recorded, Silence
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.sessions import RedisSessions

log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
Document = dict[str, Any]
VERSION: Final = 1
_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
_READS: Final = 16
"""Documents read at a time, for one caller."""
_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished sessions stay.

    Attributes:
        redis_s: seconds in Redis; after that they are read from the archive.
        archive_s: seconds from a session's end until it is deleted with its images; never if None.
    """

    redis_s: float = 86_400.0
    archive_s: float | None = None


class Archive:
    """Keeps, finds and forgets finished sessions; reads those that are in Redis from there.

    Args:
        sessions: the store of those in Redis.
        folders: the blob store.
        retention: how long.
    """

    def __init__(self, sessions: RedisSessions, folders: Folders, retention: Retention) -> None:
        self._sessions = sessions
        self._folders = folders
        self._retention = retention

    # --- chores ------------------------------------------------------------------------------------------------------

    async def chore(self, chore: str) -> None:
        """Do what is due, as ``<kind>:<session id>``.

        Raises:
            PortError: when it has to come again.
        """
        kind, _, session_id = chore.partition(":")
        chores = {"archive": self.archive, "forget": self.forget, "purge": self.remove}
        if kind not in chores:
            # A newer replica asks for it, and will do it.
            raise PortError("internal_error", f"this version of the server does not know the chore {kind!r}")
        await chores[kind](session_id)

    async def archive(self, session_id: str) -> None:
        """Write a finished session's document, and let its log expire."""
        [entries] = await self._sessions.raw([session_id])
        document = compose(session_id, entries)
        if document is None:
            # It left Redis: deleted, or archived before. Or Redis came back from an older file, and it is driven again.
            return
        data = orjson.dumps(document)
        await self._folders.write_document(session_id, data)
        # Whatever looks like a digest counts as named, so that events of a later version cost no image.
        await self._folders.prune(session_id, {name.decode() for name in _DIGEST.findall(data)})
        archive_s = self._retention.archive_s
        forget_at = None if archive_s is None else document["finished_at"] + archive_s
        if not await self._sessions.retain(session_id, document["tenant"], self._retention.redis_s, forget_at):
            # Deleted while we wrote, perhaps before: the document must not stay behind.
            await self._folders.remove(session_id)

    async def forget(self, session_id: str) -> None:
        """Delete a session whose time is over."""
        document = await self._document(session_id)
        # From here on `purge` is due, in case we do not come to the end.
        if document is None or await self._sessions.delete(session_id, document["tenant"]):
            await self._folders.remove(session_id)

    async def remove(self, session_id: str) -> None:
        """Remove the images and the document of a deleted session."""
        await self._folders.remove(session_id)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        """The events after that sequence number, in order; empty for an unknown session."""
        found = await self._sessions.read(session_id, after)
        if found or (after and await self._sessions.tail(session_id)):
            return found
        return [recorded for recorded in await self._archived(session_id) if recorded.seq > after]

    async def tail(self, session_id: str) -> Recorded | None:
        """The last event; None for an unknown session."""
        last = await self._sessions.tail(session_id)
        if last is not None:
            return last
        archived = await self._archived(session_id)
        return archived[-1] if archived else None

    def listen(self, session_id: str) -> AsyncGenerator[Recorded | Silence]:
        """Events as they are recorded, and what may lie between them."""
        return self._sessions.listen(session_id)

    async def read_many(self, session_ids: Sequence[str]) -> list[list[Recorded]]:
        """The whole logs of several sessions; empty for one that is gone or cannot be read."""
        logs = await self._sessions.read_many(session_ids)
        missing = [number for number, found in enumerate(logs) if not found]
        documents = await self._documents([session_ids[number] for number in missing])
        for number, document in zip(missing, documents, strict=True):
            if document is not None:
                logs[number] = _readable(document)
        return logs

    async def documents(
        self, tenant: str, since: float, until: float | None, status: str | None = None
    ) -> AsyncGenerator[Document]:
        """A tenant's finished sessions, oldest first, created from `since` up to before `until` (Unix seconds).

        Args:
            status: only those that ended so; a document that cannot be read is then left out.
        """
        cursor, limit = (since * 1000, ""), _ROWS
        until_ms = None if until is None else until * 1000
        while rows := await self._sessions.span(tenant, cursor[0], until_ms, limit):
            fresh = [row for row in rows if row > cursor]
            for some in _portions([name for _, name in fresh], _READS):
                for document in await self._composed(some):
                    if status is None or _status(document) == status:
                        yield document
            if fresh:
                cursor = fresh[-1]
            elif len(rows) < limit:
                return
            else:
                # More sessions in one millisecond than rows in a page.
                limit *= 2

    # --- pieces ------------------------------------------------------------------------------------------------------

    async def _archived(self, session_id: str) -> list[Recorded]:
        document = await self._document(session_id)
        if document is None or not await self._sessions.listed(document["tenant"], session_id):
            return []
        return recorded(document)

    async def _composed(self, session_ids: Sequence[str]) -> list[Document]:
        """The documents of those that are finished, made anew where the log is at hand."""
        logs = await self._sessions.raw(session_ids)
        missing = [name for name, entries in zip(session_ids, logs, strict=True) if not entries]
        read = dict(zip(missing, await self._documents(missing), strict=True))
        both = (compose(name, entries) if entries else read[name] for name, entries in zip(session_ids, logs, strict=True))
        return [document for document in both if document is not None]

    async def _documents(self, session_ids: Sequence[str]) -> list[Document | None]:
        """Several documents, a few at a time; None for one that is not there or cannot be read."""
        places = asyncio.Semaphore(_READS)

        async def one(session_id: str) -> Document | None:
            async with places:
                try:
                    return await self._document(session_id)
                except CorruptLogError as exc:
                    log.error("it is left out: %s", exc)  # noqa: TRY400 - expected, no trace needed
                    return None

        return await asyncio.gather(*(one(session_id) for session_id in session_ids))

    async def _document(self, session_id: str) -> Document | None:
        data = await self._folders.read_document(session_id)
        if data is None:
            return None
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise CorruptLogError(f"the archived session {session_id} is no JSON: {exc}") from exc
        if not isinstance(document, dict) or not {"tenant", "created_at", "events"} <= document.keys():
            raise CorruptLogError(f"the archived session {session_id} is no session")
        return document


def compose(session_id: str, entries: Iterable[tuple[int, bytes]]) -> Document | None:
    """A session's document from its log, with every field as it was written; None while it is not finished."""
    events = [{"seq": seq, **orjson.loads(event)} for seq, event in entries]
    end = next((event for event in events if event["type"] == "finished"), None)
    if end is None:
        return None
    return {
        "object": "session_archive",
        "version": VERSION,
        "id": session_id,
        "tenant": events[0]["tenant"],
        "created_at": events[0]["at"],
        "finished_at": end["at"],
        "events": events,
    }


def recorded(document: Document) -> list[Recorded]:
    """The events of a document.

    Raises:
        CorruptLogError: when one of them cannot be read.
    """
    try:
        return [Recorded(event["seq"], load(orjson.dumps(event))) for event in document["events"]]
    except (ValidationError, KeyError, TypeError) as exc:
        raise CorruptLogError(f"the archived session {document.get('id')} cannot be read: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Swept:
    """How many folders there are, and which belong to no session."""

    folders: int
    orphans: list[str]


async def sweep(sessions: RedisSessions, blobs: ObjectBlobs, *, before: float, remove: bool) -> Swept:
    """Find, and remove, folders whose session was never made: its replica died between storing the source and recording it.

    Args:
        before: Unix seconds; a folder that was written to since is left alone.
        remove: whether to remove them.
    """
    folders, orphans = 0, []
    for some in _portions(blobs.folders(), _ROWS):
        folders += len(some)
        old = [folder.session_id for folder in some if not folder.archived and folder.changed < before]
        known = await sessions.known(old) if old else []
        for session_id in (name for name, found in zip(old, known, strict=True) if not found):
            # Without an event loop's help: nothing else runs here, and obstore's would outlive a short program.
            if remove:
                blobs.remove_now(session_id)
            orphans.append(session_id)
    return Swept(folders, orphans)


def _portions(items: Iterable[_Item], size: int) -> Iterable[list[_Item]]:
    rest = iter(items)
    while portion := list(itertools.islice(rest, size)):
        yield portion


def _status(document: Document) -> str | None:
    """How the session ended; None, and a log record, for a document that cannot be read."""
    try:
        return fold(event.event for event in recorded(document)).status
    except CorruptLogError as exc:
        log.error("it is left out: %s", exc)  # noqa: TRY400 - expected, no trace needed
        return None


def _readable(document: Document) -> list[Recorded]:
    try:
        return recorded(document)
    except CorruptLogError:
        return []
