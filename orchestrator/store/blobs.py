"""Images by the SHA-256 of their bytes, in a directory or an S3 bucket, through obstore."""

from __future__ import annotations

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
    """

    def __init__(self, location: str) -> None:
        self._store = _open(location)

    async def put(self, data: bytes) -> str:
        """Store bytes and return their digest; storing the same bytes again changes nothing."""
        sha256 = digest(data)
        try:
            await obstore.put_async(self._store, _path(sha256), data, mode="create")
        except AlreadyExistsError:
            return sha256
        except (BaseError, OSError) as exc:
            raise StorageUnavailable(f"the image could not be stored: {exc}") from exc
        return sha256

    async def get(self, sha256: str) -> bytes:
        """The bytes of that digest.

        Raises:
            BlobNotFound: when they were never stored, or are gone.
        """
        try:
            reply = await obstore.get_async(self._store, _path(sha256))
            return bytes(await reply.bytes_async())
        except FileNotFoundError as exc:
            raise BlobNotFound(sha256) from exc
        except (BaseError, OSError) as exc:
            raise StorageUnavailable(f"the image could not be read: {exc}") from exc


def _open(location: str) -> ObjectStore:
    if "://" in location:
        return from_url(location)
    path = Path(location).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return LocalStore(path)


def _path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"
