"""Images and archived sessions in a directory or an S3 bucket, through obstore: one folder for each session.

<session id>/<SHA-256>      an image
<session id>/session.json   the archived session, see `orchestrator.store.archive`

Folders share nothing, so removing one removes exactly the data of its session.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
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

from orchestrator.ports.errors import BlobNotFoundError, StorageFullError, StorageUnavailableError
from orchestrator.ports.stores import Blob

_Result = TypeVar("_Result")
_SESSION: Final = re.compile(r"ses_[0-9a-f]{32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DOCUMENT: Final = "session.json"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE: Final = "probe"
_PROBE_BYTES: Final = bytes(64 * 1024)
"""More than a file system keeps in an inode."""
_SHOWN: Final = {
    StorageFullError: "the disk of the blob store is full; nothing that was stored is lost",
    StorageUnavailableError: "the blob store cannot be reached",
}
"""What callers and `/readyz` are told."""
_THREADS: Final = 8
"""For listing and deleting. They are separate from the event loop's executor, which decodes images for waiting callers."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A session's folder: the time of its last write (Unix seconds), and whether the session is archived."""

    session_id: str
    changed: float
    archived: bool


class ObjectBlobs:
    """`orchestrator.ports.stores.Folders` on any object store.

    Args:
        location: a directory (made if missing), or a URL such as ``s3://bucket/prefix``; credentials come from the
            environment, as obstore documents.
        cache_bytes: size of the LRU cache in memory: a candidate is sent to the thinker just after it was stored, and a
            session's source with every edit and critique.
        least_free_bytes: of a directory's disk, below which it counts as full: sessions that run need the rest.
    """

    def __init__(self, location: str, *, cache_bytes: int = 64 * 1024 * 1024, least_free_bytes: int = 0) -> None:
        self._store, self._root = _open(location)
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_bytes = self._free_bytes = cache_bytes
        self._least_free_bytes = least_free_bytes
        self._failed = False
        """Whether the last write failed."""
        self._executor = ThreadPoolExecutor(_THREADS, "blobs")

    async def put(self, session_id: str, image: Blob) -> None:
        """Store an image; storing the same bytes again changes nothing."""
        async with self._write("the image could not be stored"):
            with contextlib.suppress(AlreadyExistsError):
                await obstore.put_async(self._store, f"{_folder(session_id)}/{image.sha256}", image.data, mode="create")
        self._remember(image.sha256, image.data)

    async def get(self, session_id: str, sha256: str) -> bytes:
        """The image of that digest.

        Raises:
            BlobNotFoundError: when it was never stored, or is gone.
        """
        # Cached by digest, for all sessions; callers only pass digests that the session's events name.
        if sha256 in self._cache:
            self._cache.move_to_end(sha256)
            return self._cache[sha256]
        if not _DIGEST.fullmatch(sha256):
            raise BlobNotFoundError(sha256)
        data = await self._read(f"{_folder(session_id)}/{sha256}")
        if data is None:
            raise BlobNotFoundError(sha256)
        self._remember(sha256, data)
        return data

    async def read(self, session_id: str, sha256: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of an image, for readers that may be slow: it is not cached for them, nor held as a whole.

        Raises:
            BlobNotFoundError: when it was never stored, or is gone.
        """
        if sha256 in self._cache:
            self._cache.move_to_end(sha256)
            return self._cache[sha256][start:end]
        if not _DIGEST.fullmatch(sha256):
            raise BlobNotFoundError(sha256)
        async with _translated("it could not be read"):
            try:
                path = f"{_folder(session_id)}/{sha256}"
                return bytes(await obstore.get_range_async(self._store, path, start=start, end=end))
            except FileNotFoundError as exc:
                raise BlobNotFoundError(sha256) from exc

    async def write_document(self, session_id: str, data: bytes) -> None:
        """Store the document, in place of an earlier one."""
        async with self._write("the document could not be stored"):
            await obstore.put_async(self._store, f"{_folder(session_id)}/{_DOCUMENT}", data)

    async def probe(self) -> None:
        """Write something to a directory, or to a bucket if the last write failed.

        Raises:
            StorageUnavailableError: when that is refused, or the disk is nearly full.
        """
        if self._root is None and not self._failed:
            return  # Each write to a bucket costs money, and they show soon enough.
        async with self._write("nothing can be stored"):
            await obstore.put_async(self._store, _PROBE, _PROBE_BYTES)
            with contextlib.suppress(FileNotFoundError):  # another replica removed it
                await obstore.delete_async(self._store, _PROBE)
        if self._root is not None:
            free = (await asyncio.to_thread(shutil.disk_usage, self._root)).free
            if free < self._least_free_bytes:
                raise StorageFullError(f"{free:,} bytes of the disk are free", shown=_SHOWN[StorageFullError])

    async def read_document(self, session_id: str) -> bytes | None:
        """The document; None if there is none, also for a malformed id."""
        return await self._read(f"{session_id}/{_DOCUMENT}") if _SESSION.fullmatch(session_id) else None

    async def prune(self, session_id: str, named: Collection[str]) -> None:
        """Remove the images whose digests are not among these, and partly written ones that a crash left."""
        await self._in_thread(self._prune, session_id, named)

    async def remove(self, session_id: str) -> None:
        """Remove the document and every image; a folder that is gone already is no error."""
        await self._in_thread(self.remove_now, session_id)

    # --- synchronous, for threads and for programs without an event loop ------------------------------------------------

    def remove_now(self, session_id: str) -> None:
        """`remove`, without an event loop."""
        folder = _folder(session_id)
        if self._root:
            # The document first: a partly removed session must not look archived.
            (self._root / folder / _DOCUMENT).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._root / folder)
            return
        paths = sorted((entry["path"] for page in obstore.list(self._store, folder) for entry in page), key=_is_image)
        if paths:
            obstore.delete(self._store, paths)

    def folders(self) -> Iterator[Folder]:
        """The folders of all sessions; other entries are skipped."""
        if self._root:
            for path in self._root.iterdir():
                with contextlib.suppress(FileNotFoundError):  # removed in the meantime
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
            # obstore hides <digest>#<number>, an image whose writer was killed; the directory shows it.
            with contextlib.suppress(FileNotFoundError):  # the session is being deleted
                for path in (self._root / folder).iterdir():
                    if path.name not in named and _DIGEST.match(path.name):
                        path.unlink(missing_ok=True)
            return
        paths = [entry["path"] for page in obstore.list(self._store, folder) for entry in page]
        orphans = [path for path in paths if (name := path.rpartition("/")[2]) not in named and _DIGEST.fullmatch(name)]
        if orphans:
            obstore.delete(self._store, orphans)

    async def _in_thread(self, work: Callable[..., _Result], *args: object) -> _Result:
        async with _translated("a session's folder could not be cleared"):
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    @contextlib.asynccontextmanager
    async def _write(self, otherwise: str) -> AsyncIterator[None]:
        try:
            async with _translated(otherwise):
                yield
        except StorageUnavailableError:
            self._failed = True
            raise
        self._failed = False

    async def _read(self, path: str) -> bytes | None:
        async with _translated("it could not be read"):
            try:
                reply = await obstore.get_async(self._store, path)
                return bytes(await reply.bytes_async())
            except FileNotFoundError:
                return None

    def _remember(self, sha256: str, data: bytes) -> None:
        if sha256 in self._cache or len(data) > self._cache_bytes:
            return
        self._cache[sha256] = data
        self._free_bytes -= len(data)
        while self._free_bytes < 0:
            self._free_bytes += len(self._cache.popitem(last=False)[1])


def _open(location: str) -> tuple[ObjectStore, Path | None]:
    """The store, and its directory where it is one."""
    if "://" in location and not location.startswith("file://"):
        return from_url(location), None
    path = Path(unquote(location.removeprefix("file://")) if "://" in location else location).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    # Not on a volume of another owner, such as Kubernetes' with an fsGroup, whose mode is its maker's business.
    with contextlib.suppress(PermissionError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    return LocalStore(path), path


def _folder(session_id: str) -> str:
    # Ids are generated here; a malformed one must never become a path out of the store.
    if not _SESSION.fullmatch(session_id):
        raise ValueError(f"{session_id!r} is not the id of a session")
    return session_id


def _on_disk(path: Path) -> Folder:
    times = [path.stat().st_mtime, *(file.stat().st_mtime for file in path.iterdir())]
    return Folder(path.name, max(times), (path / _DOCUMENT).exists())


def _is_image(path: str) -> bool:
    return not path.endswith(f"/{_DOCUMENT}")


@contextlib.asynccontextmanager
async def _translated(otherwise: str) -> AsyncIterator[None]:
    try:
        yield
    except (BaseError, OSError) as exc:
        # The lines after the first are obstore's internal representation.
        message, _, _ = str(exc).partition("\n")
        kind = StorageFullError if _is_full(exc) else StorageUnavailableError
        raise kind(f"{otherwise}: {message}", shown=_SHOWN[kind]) from exc


def _is_full(exc: Exception) -> bool:
    """Whether a disk or a quota is full. obstore's exceptions have the system's error number in their text only."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return exc.errno in _FULL
    return any(f"(os error {number})" in str(exc) for number in _FULL)
