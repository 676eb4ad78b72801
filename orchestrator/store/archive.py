"""The archive of finished sessions: one JSON document each, with every event, in the folder that holds its images.

archive   write the document, remove images that no event names, then let the log expire in Redis
forget    delete a session at the end of its retention
purge     remove the folder of a deleted session

Each of these chores can be interrupted anywhere and is then repeated from the start. A session exists if the tenant's index has
an entry for it: deleting removes the entry in the same step, and a document without an entry is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError

from orchestrator.loop.events import load
from orchestrator.loop.session import CorruptLogError, Session, apply, fold
from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import Folders, Recorded, SessionFacts, Silence
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.sessions import RedisSessions

log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
Document = dict[str, Any]
VERSION: Final = 1
_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
_CONCURRENT_READS: Final = 16
"""Documents read concurrently for one caller."""
_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished sessions are retained.

    Attributes:
        redis_s: seconds in Redis; after that they are read from the archive.
        archive_s: seconds from a session's end until it is deleted with its images; never if None.
    """

    redis_s: float = 86_400.0
    archive_s: float | None = None


class Archive:
    """`orchestrator.ports.stores.SessionArchive`: writes, reads and deletes archived sessions; reads others from Redis.

    Args:
        sessions: the store of those in Redis.
        folders: the blob store.
        retention: how long sessions are retained.
    """

    def __init__(self, sessions: RedisSessions, folders: Folders, retention: Retention) -> None:
        self._sessions = sessions
        self._folders = folders
        self._retention = retention

    # --- chores ------------------------------------------------------------------------------------------------------

    async def chore(self, chore: str) -> None:
        """Run a due chore, ``<kind>:<session id>``.

        Raises:
            PortError: when it has to be repeated.
        """
        kind, _, session_id = chore.partition(":")
        chores = {"archive": self.archive, "forget": self.forget, "purge": self.remove}
        if kind not in chores:
            # A newer replica scheduled it, and will run it.
            raise PortError("internal_error", f"this version of the server does not know the chore {kind!r}")
        await chores[kind](session_id)

    async def archive(self, session_id: str) -> None:
        """Write a finished session's document, and let its log expire."""
        [entries] = await self._sessions.raw_logs([session_id])
        try:
            document = compose(session_id, entries)
        except CorruptLogError as exc:
            document = await self._unreadable(session_id, entries, exc)
        if document is None:
            # Deleted or archived before, or Redis was restored from an older file and the session is driven again.
            return
        data = orjson.dumps(document)
        await self._folders.write_document(session_id, data)
        # Everything that looks like a digest counts as a name, so that images named by events of later versions stay.
        await self._folders.prune(session_id, {name.decode() for name in _DIGEST.findall(data)})
        archive_s = self._retention.archive_s
        forget_at = None if archive_s is None else document["finished_at"] + archive_s
        if not await self._sessions.expire(session_id, document["tenant"], self._retention.redis_s, forget_at):
            # Deleted while the document was written, or before: it must not stay.
            await self._folders.remove(session_id)

    async def forget(self, session_id: str) -> None:
        """Delete a session whose retention is over."""
        document = await self._document(session_id)
        # `delete` schedules `purge`, in case this is interrupted.
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
        # Whole milliseconds, as the index has them: what begins with a session has it, and what ends with it does not.
        cursor, limit = (int(since * 1000), ""), _PAGE
        until_ms = None if until is None else int(until * 1000)
        while rows := await self._sessions.created_between(tenant, cursor[0], until_ms, limit):
            new = [row for row in rows if row > cursor]
            for batch in _batches([name for _, name in new], _CONCURRENT_READS):
                for document in await self._compose_all(batch):
                    if status is None or _status(document) == status:
                        yield document
            if new:
                cursor = new[-1]
            elif len(rows) < limit:
                return
            else:
                # More sessions in one millisecond than a page has rows.
                limit *= 2

    async def readable(self, session_id: str) -> tuple[SessionFacts, list[Recorded]] | None:
        """What is known of a session whose log cannot be read: the events before the first that cannot be; None if unknown."""
        facts = await self._sessions.facts(session_id)
        if facts is not None:
            return facts, _up_to_the_first_unreadable(await self._sessions.stored(session_id))
        document = await self._document(session_id)
        if document is None or not await self._sessions.exists(document["tenant"], session_id):
            return None
        events = document["events"]
        facts = SessionFacts(document["tenant"], len(events), finished=True, created_at=document["created_at"])
        return facts, _up_to_the_first_unreadable((event.get("seq", 0), orjson.dumps(event)) for event in events)

    # --- pieces ------------------------------------------------------------------------------------------------------

    async def _unreadable(self, session_id: str, entries: Sequence[tuple[int, bytes]], reason: Exception) -> Document | None:
        """The document of a finished session whose first event cannot be read."""
        facts = await self._sessions.facts(session_id)
        if facts is None or not facts.finished:
            return None
        log.error("session %s is archived as it is stored: %s", session_id, reason)
        document = _head(session_id, facts.tenant, facts.created_at, time.time())
        return document | {"events": [{"seq": seq, **_fields(text)} for seq, text in entries]}

    async def _archived(self, session_id: str) -> list[Recorded]:
        document = await self._document(session_id)
        if document is None or not await self._sessions.exists(document["tenant"], session_id):
            return []
        return recorded(document)

    async def _compose_all(self, session_ids: Sequence[str]) -> list[Document]:
        """The documents of the finished sessions among these, composed from the log where it is still in Redis."""
        logs = await self._sessions.raw_logs(session_ids)
        missing = [name for name, entries in zip(session_ids, logs, strict=True) if not entries]
        read = dict(zip(missing, await self._documents(missing), strict=True))
        both = (_composed(name, entries) if entries else read[name] for name, entries in zip(session_ids, logs, strict=True))
        return [document for document in both if document is not None]

    async def _documents(self, session_ids: Sequence[str]) -> list[Document | None]:
        """Several documents, read concurrently; None for one that does not exist or cannot be read."""
        semaphore = asyncio.Semaphore(_CONCURRENT_READS)

        async def one(session_id: str) -> Document | None:
            async with semaphore:
                try:
                    return await self._document(session_id)
                except CorruptLogError as exc:
                    log.error("a document is left out: %s", exc)  # noqa: TRY400 - expected, no trace needed
                    return None

        return await asyncio.gather(*(one(session_id) for session_id in session_ids))

    async def _document(self, session_id: str) -> Document | None:
        data = await self._folders.read_document(session_id)
        if data is None:
            return None
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise CorruptLogError(f"the archived session {session_id} is not JSON: {exc}") from exc
        if not isinstance(document, dict) or not {"tenant", "created_at", "events"} <= document.keys():
            raise CorruptLogError(f"the archived document of {session_id} is not a session")
        return document


def compose(session_id: str, entries: Iterable[tuple[int, bytes]]) -> Document | None:
    """A session's document from its log, with every field as it was written; None while it is not finished.

    Raises:
        CorruptLogError: when its first event cannot be read.
    """
    events = [{"seq": seq, **_fields(event)} for seq, event in entries]
    end = next((event for event in events if event.get("type") == "finished"), None)
    if end is None:
        return None
    if not {"tenant", "at"} <= events[0].keys():
        raise CorruptLogError(f"the first event of {session_id} is not that of a session")
    return _head(session_id, events[0]["tenant"], events[0]["at"], end["at"]) | {"events": events}


def _composed(session_id: str, entries: Iterable[tuple[int, bytes]]) -> Document | None:
    try:
        return compose(session_id, entries)
    except CorruptLogError as exc:
        log.error("a document is left out: %s", exc)  # noqa: TRY400 - expected, no trace needed
        return None


def _fields(text: bytes) -> Document:
    """An event's fields as they were written; its text where it is not JSON."""
    try:
        event = orjson.loads(text)
    except orjson.JSONDecodeError:
        event = None
    return event if isinstance(event, dict) else {"unreadable": text.decode("utf-8", "replace")}


def _head(session_id: str, tenant: str, created_at: float, finished_at: float) -> Document:
    return {
        "object": "session_archive",
        "version": VERSION,
        "id": session_id,
        "tenant": tenant,
        "created_at": created_at,
        "finished_at": finished_at,
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


def _up_to_the_first_unreadable(entries: Iterable[tuple[int, bytes]]) -> list[Recorded]:
    """The events at the start of a log that can be read and follow from one another."""
    events: list[Recorded] = []
    with contextlib.suppress(ValidationError, CorruptLogError):
        session: Session | None = None
        for seq, text in entries:
            event = load(text)
            session = fold([event]) if session is None else apply(session, event)
            events.append(Recorded(seq, event))
    return events


@dataclass(frozen=True, slots=True)
class Swept:
    """The number of folders, and the ids of those without a session."""

    folders: int
    orphans: list[str]


async def sweep(sessions: RedisSessions, blobs: ObjectBlobs, *, before: float, remove: bool) -> Swept:
    """Find, and remove, folders whose session was never recorded: the replica died after storing the source.

    Args:
        before: Unix seconds; folders written to after that are ignored.
        remove: whether to remove them.
    """
    folders, orphans = 0, []
    for batch in _batches(blobs.folders(), _PAGE):
        folders += len(batch)
        old = [folder.session_id for folder in batch if not folder.archived and folder.changed < before]
        known = await sessions.in_redis(old) if old else []
        for session_id in (name for name, found in zip(old, known, strict=True) if not found):
            # Synchronously: nothing else runs here, and obstore's background threads would outlive a short program.
            if remove:
                blobs.remove_now(session_id)
            orphans.append(session_id)
    return Swept(folders, orphans)


def _batches(items: Iterable[_Item], size: int) -> Iterable[list[_Item]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _status(document: Document) -> str | None:
    """How the session ended; None, and a log record, for a document that cannot be read."""
    try:
        return fold(event.event for event in recorded(document)).status
    except CorruptLogError as exc:
        log.error("a document is left out: %s", exc)  # noqa: TRY400 - expected, no trace needed
        return None


def _readable(document: Document) -> list[Recorded]:
    try:
        return recorded(document)
    except CorruptLogError:
        return []
