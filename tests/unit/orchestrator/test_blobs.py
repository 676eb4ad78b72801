"""Images by digest: stored once, found again, kept in memory within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ports import BlobNotFound
from orchestrator.store.blobs import ObjectBlobs
from services.wire.images import digest


async def test_what_was_put_is_found_by_another_process(tmp_path: Path) -> None:
    """Under the digest of its bytes; putting it again changes nothing."""
    blobs = ObjectBlobs(str(tmp_path / "new"))
    name = await blobs.put(b"picture")

    assert name == await blobs.put(b"picture") == digest(b"picture")
    assert await ObjectBlobs(str(tmp_path / "new")).get(name) == b"picture"


async def test_what_was_never_put_is_not_found(tmp_path: Path) -> None:
    """With the error that says so."""
    with pytest.raises(BlobNotFound):
        await ObjectBlobs(str(tmp_path)).get("0" * 64)


async def test_memory_is_bounded_and_everything_is_still_found(tmp_path: Path) -> None:
    """The least recently used images are forgotten first; one larger than the bound is never kept."""
    blobs = ObjectBlobs(str(tmp_path), cache_bytes=1000)
    pictures = [bytes([number]) * 300 for number in range(20)] + [b"x" * 2000]
    names = [await blobs.put(picture) for picture in pictures]

    assert sum(map(len, blobs._recent.values())) <= 1000
    assert [await blobs.get(name) for name in names] == pictures
    assert sum(map(len, blobs._recent.values())) <= 1000
    assert list(blobs._recent) == names[17:20]
