"""Images by the SHA-256 of their bytes, in a directory or an S3 bucket, through obstore."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from orchestrator.ports import BlobNotFound, StorageUnavailable
from services.wire.images import digest


class ObjectBlobs:
    """`orchestrator.ports.Blobs` on any object store.

    Args:
        location: a directory (made if missing), or a URL such as ``s3://bucket/prefix``; credentials come from the
            environment, as obstore documents.
        cache_bytes: images kept in memory, most recently used first: a candidate is sent to the thinker just after
            it was stored, and a session's source with every edit and critique.
    """

    def __init__(self, location: str, *, cache_bytes: int = 64 * 1024 * 1024) -> None:
        self._store = _open(location)
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._capacity = self._room = cache_bytes

    async def put(self, data: bytes) -> str:
        """Store bytes and return their digest; storing the same bytes again changes nothing."""
        sha256 = digest(data)
        try:
            await obstore.put_async(self._store, _path(sha256), data, mode="create")
        except AlreadyExistsError:
            pass
        except (BaseError, OSError) as exc:
            raise StorageUnavailable(f"the image could not be stored: {exc}") from exc
        self._keep(sha256, data)
        return sha256

    async def get(self, sha256: str) -> bytes:
        """The bytes of that digest.

        Raises:
            BlobNotFound: when they were never stored, or are gone.
        """
        if sha256 in self._recent:
            self._recent.move_to_end(sha256)
            return self._recent[sha256]
        try:
            reply = await obstore.get_async(self._store, _path(sha256))
            data = bytes(await reply.bytes_async())
        except FileNotFoundError as exc:
            raise BlobNotFound(sha256) from exc
        except (BaseError, OSError) as exc:
            raise StorageUnavailable(f"the image could not be read: {exc}") from exc
        self._keep(sha256, data)
        return data

    def _keep(self, sha256: str, data: bytes) -> None:
        if sha256 in self._recent or len(data) > self._capacity:
            return
        self._recent[sha256] = data
        self._room -= len(data)
        while self._room < 0:
            self._room += len(self._recent.popitem(last=False)[1])


def _open(location: str) -> ObjectStore:
    if "://" in location:
        return from_url(location)
    path = Path(location).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return LocalStore(path)


def _path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"
