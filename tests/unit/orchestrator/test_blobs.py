"""Images by session and digest: stored once, found again, kept in memory within bounds, removed with their session."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest

from orchestrator.api.errors import from_port
from orchestrator.ports.errors import BlobNotFoundError, StorageFullError, StorageUnavailableError
from orchestrator.store.blobs import Folder, ObjectBlobs
from services.imaging.codec import digest
from tests.doubles.images import checked

A, B = f"ses_{'a' * 32}", f"ses_{'b' * 32}"
PLACES = ["directory", "file", "memory"]


@pytest.fixture(params=PLACES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectBlobs:
    """An empty store without a cache."""
    places = {"directory": str(tmp_path), "file": f"file://{tmp_path}", "memory": "memory:///"}
    return ObjectBlobs(places[request.param], cache_bytes=0)


async def put(blobs: ObjectBlobs, session_id: str, data: bytes) -> str:
    """Store an image; its digest."""
    image = checked(data)
    await blobs.put(session_id, image)
    return image.sha256


async def test_a_stored_image_is_found_by_another_process(tmp_path: Path) -> None:
    """It is stored under its session and digest; storing it again changes nothing."""
    blobs = ObjectBlobs(str(tmp_path / "new"))
    name = await put(blobs, A, b"picture")
    await put(blobs, A, b"picture")

    assert name == digest(b"picture")
    assert await ObjectBlobs(str(tmp_path / "new")).get(A, name) == b"picture"
    assert (tmp_path / "new" / A / name).read_bytes() == b"picture"


async def test_an_image_that_was_not_stored_is_not_found(blobs: ObjectBlobs) -> None:
    """Images of other sessions are not found either."""
    await put(blobs, B, b"picture")

    for name in ("0" * 64, digest(b"picture"), f"../{B}/{digest(b'picture')}"):
        with pytest.raises(BlobNotFoundError):
            await blobs.get(A, name)
    assert await blobs.read_document(A) is None


async def test_the_cache_is_bounded_and_evicted_images_are_still_found(tmp_path: Path) -> None:
    """The least recently used images are evicted first; one larger than the bound is not cached."""
    blobs = ObjectBlobs(str(tmp_path), cache_bytes=1000)
    pictures = [bytes([number]) * 300 for number in range(20)] + [b"x" * 2000]
    names = [await put(blobs, A, picture) for picture in pictures]

    assert sum(map(len, blobs._cache.values())) <= 1000
    assert [await blobs.get(A, name) for name in names] == pictures
    assert sum(map(len, blobs._cache.values())) <= 1000
    assert list(blobs._cache) == names[17:20]


@pytest.mark.parametrize("session_id", ["", "..", "../x", "ses_", A + "/..", A.upper(), A + "\n", "/etc", "a" * 36])
async def test_a_malformed_session_id_never_becomes_a_path(blobs: ObjectBlobs, session_id: str) -> None:
    """Reading finds nothing; writing and removing are refused."""
    assert await blobs.read_document(session_id) is None
    for refused in (
        blobs.put(session_id, checked(b"x")),
        blobs.get(session_id, "0" * 64),
        blobs.write_document(session_id, b"{}"),
        blobs.prune(session_id, set()),
        blobs.remove(session_id),
    ):
        with pytest.raises(ValueError, match=re.escape(repr(session_id))):
            await refused


async def test_removing_a_session_removes_its_folder_and_no_other(blobs: ObjectBlobs, tmp_path: Path) -> None:
    """Also where both hold the same image; removing it again is not an error."""
    for session_id in (A, B):
        await put(blobs, session_id, b"picture")
        await blobs.write_document(session_id, b"{}")

    await blobs.remove(A)
    await blobs.remove(A)

    assert await blobs.read_document(A) is None
    with pytest.raises(BlobNotFoundError):
        await blobs.get(A, digest(b"picture"))
    assert await blobs.get(B, digest(b"picture")) == b"picture"
    assert [folder.session_id for folder in blobs.folders()] == [B]
    assert not (tmp_path / A).exists()


async def test_a_document_replaces_the_previous_one(blobs: ObjectBlobs) -> None:
    """Reading returns the last one written."""
    await blobs.write_document(A, b"1")
    await blobs.write_document(A, b"2")

    assert await blobs.read_document(A) == b"2"


async def test_pruning_leaves_the_named_images_and_the_document(blobs: ObjectBlobs) -> None:
    """Other folders are not touched; a missing one is not an error."""
    named, orphan = [await put(blobs, A, data) for data in (b"named", b"orphan")]
    await put(blobs, B, b"orphan")
    await blobs.write_document(A, b"{}")

    await blobs.prune(A, {named})
    await blobs.prune(f"ses_{'c' * 32}", {named})

    assert await blobs.get(A, named) == b"named"
    with pytest.raises(BlobNotFoundError):
        await blobs.get(A, orphan)
    assert await blobs.read_document(A) == b"{}"
    assert await blobs.get(B, orphan) == b"orphan"


async def test_pruning_removes_an_image_that_was_half_written_when_its_writer_was_killed(tmp_path: Path) -> None:
    """obstore writes to a temporary name first, which it does not list."""
    blobs = ObjectBlobs(str(tmp_path))
    name = await put(blobs, A, b"picture")
    (tmp_path / A / f"{name}#1").write_bytes(b"pict")

    await blobs.prune(A, {name})

    assert [path.name for path in (tmp_path / A).iterdir()] == [name]


async def test_folders_have_the_time_of_their_last_write_and_whether_they_are_archived(tmp_path: Path) -> None:
    """Empty folders are listed; other entries are skipped."""
    blobs = ObjectBlobs(str(tmp_path))
    name = await put(blobs, A, b"picture")
    await blobs.write_document(B, b"{}")
    (tmp_path / "ab").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    empty = tmp_path / f"ses_{'c' * 32}"
    empty.mkdir()
    for path, at in ((tmp_path / A / name, 2000), (tmp_path / A, 1000), (empty, 500)):
        os.utime(path, (at, at))

    found = {folder.session_id: folder for folder in blobs.folders()}

    assert found.keys() == {A, B, empty.name}
    assert found[A] == Folder(A, 2000, archived=False)
    assert found[empty.name] == Folder(empty.name, 500, archived=False)
    assert found[B].archived


async def test_an_unusable_store_is_reported_as_unavailable(tmp_path: Path) -> None:
    """For every operation."""
    blobs = ObjectBlobs(str(tmp_path))
    (tmp_path / A).write_text("not a folder")

    for asked in (blobs.put(A, checked(b"x")), blobs.write_document(A, b"x"), blobs.remove(A), blobs.prune(A, set())):
        with pytest.raises(StorageUnavailableError):
            await asked


async def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files, in place of a full disk: reads go on, and so do writes once there is space."""
    blobs = ObjectBlobs(str(tmp_path), cache_bytes=0)
    before = await put(blobs, A, b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StorageFullError) as caught:
            await put(blobs, A, b"a" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = from_port(caught.value)

    assert (error.code, error.status, error.row.retryable) == ("storage_full", 507, True)
    assert str(tmp_path) not in error.message
    assert await blobs.get(A, before) == b"before"
    assert await blobs.get(A, await put(blobs, A, b"a" * 2000)) == b"a" * 2000


def test_an_existing_folder_is_made_private(tmp_path: Path) -> None:
    """At every start, also one that a backup or an earlier version has made."""
    folder = tmp_path / "blobs"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    ObjectBlobs(str(folder))

    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_volume_of_another_owner_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as Kubernetes' with an fsGroup: its mode cannot be changed, and need not be."""

    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(0o775)
    monkeypatch.setattr(Path, "chmod", refused)

    ObjectBlobs(str(tmp_path))


async def test_a_directory_is_probed_by_a_write_that_leaves_nothing(tmp_path: Path) -> None:
    await ObjectBlobs(str(tmp_path)).probe()

    assert list(tmp_path.iterdir()) == []


async def test_a_disk_with_less_than_the_reserve_is_full(tmp_path: Path) -> None:
    """No disk has an exabyte."""
    with pytest.raises(StorageFullError) as told:
        await ObjectBlobs(str(tmp_path), least_free_bytes=10**18).probe()
    assert told.value.shown == "the disk of the blob store is full; nothing that was stored is lost"
