"""Images and archived sessions, in a directory or an S3 bucket, through obstore: one folder a session.

<session id>/<SHA-256>      an image
<session id>/session.json   the archived session, see `orchestrator.store.archive`

Nothing is shared between folders, so removing one removes exactly what is its session's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from orchestrator.ports import BlobNotFoundError, StorageUnavailableError
from services.imaging.codec import CheckedImage

_Result = TypeVar("_Result")
_SESSION: Final = re.compile(r"ses_[0-9a-f]{32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DOCUMENT: Final = "session.json"
_PORTERS: Final = 8
"""Threads that list and delete. Those of the event loop decode pictures for callers who wait."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A session's folder: when something was last written to it (Unix seconds), and whether the session is archived."""

    session_id: str
    changed: float
    archived: bool


class ObjectBlobs:
    """`orchestrator.ports.Folders` on any object store.

    Args:
        location: a directory (made if missing), or a URL such as ``s3://bucket/prefix``; credentials come from the
            environment, as obstore documents.
        cache_bytes: images kept in memory, most recently used first: a candidate is sent to the thinker just after
            it was stored, and a session's source with every edit and critique.
    """

    def __init__(self, location: str, *, cache_bytes: int = 64 * 1024 * 1024) -> None:
        self._store, self._root = _open(location)
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._capacity = self._room = cache_bytes
        self._porters = ThreadPoolExecutor(_PORTERS, "blobs")

    async def put(self, session_id: str, image: CheckedImage) -> None:
        """Store an image; storing the same bytes again changes nothing."""
        async with _reaching("the image could not be stored"):
            with contextlib.suppress(AlreadyExistsError):
                await obstore.put_async(self._store, f"{_folder(session_id)}/{image.sha256}", image.data, mode="create")
        self._keep(image.sha256, image.data)

    async def get(self, session_id: str, sha256: str) -> bytes:
        """The image of that digest.

        Raises:
            BlobNotFoundError: when it was never stored, or is gone.
        """
        # The same bytes, whosever they are; that the session names them is for the caller to know.
        if sha256 in self._recent:
            self._recent.move_to_end(sha256)
            return self._recent[sha256]
        if not _DIGEST.fullmatch(sha256):
            raise BlobNotFoundError(sha256)
        data = await self._read(f"{_folder(session_id)}/{sha256}")
        if data is None:
            raise BlobNotFoundError(sha256)
        self._keep(sha256, data)
        return data

    async def write_document(self, session_id: str, data: bytes) -> None:
        """Store the document, in place of an earlier one."""
        async with _reaching("the document could not be stored"):
            await obstore.put_async(self._store, f"{_folder(session_id)}/{_DOCUMENT}", data)

    async def read_document(self, session_id: str) -> bytes | None:
        """The document; None if there is none, whatever the id looks like."""
        return await self._read(f"{session_id}/{_DOCUMENT}") if _SESSION.fullmatch(session_id) else None

    async def prune(self, session_id: str, named: Collection[str]) -> None:
        """Remove the images whose digests are not among these, and what a crash left of one half written."""
        await self._aside(self._prune, session_id, named)

    async def remove(self, session_id: str) -> None:
        """Remove the document and every image; a folder that is gone already is no error."""
        await self._aside(self.remove_now, session_id)

    # --- in a thread of its own, or in a program without an event loop -------------------------------------------------

    def remove_now(self, session_id: str) -> None:
        """`remove`, without an event loop."""
        folder = _folder(session_id)
        if self._root:
            # The document first: a session half removed must not look like one that is whole.
            (self._root / folder / _DOCUMENT).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._root / folder)
            return
        paths = sorted((entry["path"] for page in obstore.list(self._store, folder) for entry in page), key=_is_image)
        if paths:
            obstore.delete(self._store, paths)

    def folders(self) -> Iterator[Folder]:
        """Every session's folder; what else lies there is passed over."""
        if self._root:
            for path in self._root.iterdir():
                with contextlib.suppress(FileNotFoundError):  # removed while we look
                    if _SESSION.fullmatch(path.name):
                        yield _on_disk(path)
            return
        # Bucket listings are in the order of the names, so a folder's objects come together.
        objects = (entry for page in obstore.list(self._store) for entry in page)
        for name, entries in itertools.groupby(objects, lambda entry: entry["path"].partition("/")[0]):
            if _SESSION.fullmatch(name):
                found = [(entry["last_modified"].timestamp(), entry["path"]) for entry in entries]
                yield Folder(name, max(found)[0], any(path == f"{name}/{_DOCUMENT}" for _, path in found))

    def _prune(self, session_id: str, named: Collection[str]) -> None:
        folder = _folder(session_id)
        if self._root:
            # A directory also shows what obstore hides: <digest>#<number>, an image whose writer was killed.
            with contextlib.suppress(FileNotFoundError):  # the session is being deleted
                for path in (self._root / folder).iterdir():
                    if path.name not in named and _DIGEST.match(path.name):
                        path.unlink(missing_ok=True)
            return
        paths = [entry["path"] for page in obstore.list(self._store, folder) for entry in page]
        orphans = [path for path in paths if (name := path.rpartition("/")[2]) not in named and _DIGEST.fullmatch(name)]
        if orphans:
            obstore.delete(self._store, orphans)

    async def _aside(self, work: Callable[..., _Result], *args: object) -> _Result:
        async with _reaching("a session's folder could not be cleared"):
            return await asyncio.get_running_loop().run_in_executor(self._porters, work, *args)

    async def _read(self, path: str) -> bytes | None:
        async with _reaching("it could not be read"):
            try:
                reply = await obstore.get_async(self._store, path)
                return bytes(await reply.bytes_async())
            except FileNotFoundError:
                return None

    def _keep(self, sha256: str, data: bytes) -> None:
        if sha256 in self._recent or len(data) > self._capacity:
            return
        self._recent[sha256] = data
        self._room -= len(data)
        while self._room < 0:
            self._room += len(self._recent.popitem(last=False)[1])


def _open(location: str) -> tuple[ObjectStore, Path | None]:
    """The store, and its directory where it is one."""
    if "://" in location and not location.startswith("file://"):
        return from_url(location), None
    path = Path(unquote(location.removeprefix("file://")) if "://" in location else location).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return LocalStore(path), path


def _folder(session_id: str) -> str:
    # Ids are made by us. Should another ever come here, it must not lead out of the store.
    if not _SESSION.fullmatch(session_id):
        raise ValueError(f"{session_id!r} is not the id of a session")
    return session_id


def _on_disk(path: Path) -> Folder:
    times = [path.stat().st_mtime, *(file.stat().st_mtime for file in path.iterdir())]
    return Folder(path.name, max(times), (path / _DOCUMENT).exists())


def _is_image(path: str) -> bool:
    return not path.endswith(f"/{_DOCUMENT}")


@contextlib.asynccontextmanager
async def _reaching(otherwise: str) -> AsyncIterator[None]:
    try:
        yield
    except (BaseError, OSError) as exc:
        # What follows the first line is how obstore sees it inside.
        message, _, _ = str(exc).partition("\n")
        raise StorageUnavailableError(f"{otherwise}: {message}") from exc
