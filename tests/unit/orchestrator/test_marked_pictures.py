"""A stored picture is marked while it is read in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.marks import UNMARKED, Mark, Marks
from orchestrator.api.pictures import StoredPicture, stored_pieces
from orchestrator.loop.events import Carried, Edited, EditStarted, ImageRef, Limits, SessionCreated, TurnStarted
from orchestrator.loop.session import Candidate, Session, fold
from services.imaging import marks
from services.imaging.codec import OutputFormat, encode
from tests.unit.imaging.pictures import scene

MARK = Mark(marks.EDITED_BY_MODEL)


class OneBlob:
    """A store of one picture that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []

    async def put(self, *_: object) -> None:
        raise AssertionError

    async def get(self, *_: object) -> bytes:
        raise AssertionError

    async def read(self, session_id: str, sha256: str, start: int, end: int) -> bytes:
        self.reads.append((start, end))
        return self.data[start:end]


def created(source: ImageRef) -> SessionCreated:
    limits = Limits(deadline_at=10)
    return SessionCreated(at=0, source=source, instruction="x", editor="e", thinker="t", limits=limits)


def ref(data: bytes) -> ImageRef:
    return ImageRef(sha256="0" * 64, media_type="image/png", bytes=len(data), width=6, height=4)


@given(st.sampled_from(["png", "jpeg", "webp"]), st.integers(0, 2000), st.integers(0, 2000), st.integers(30, 5000))
async def test_every_part_is_that_of_the_marked_file(kind: OutputFormat, one: int, other: int, head_bytes: int) -> None:
    data = encode(scene("RGB", (40, 30)), kind)
    whole = MARK.written(data)
    blob = OneBlob(data)
    picture = await StoredPicture.open(blob, "ses", ref(data), MARK, head_bytes=max(64, head_bytes))
    start, end = sorted((one % (len(whole) + 1), other % (len(whole) + 1)))
    assert picture.size == len(whole) and await picture.read(start, end) == whole[start:end]


async def test_a_large_picture_is_read_once_and_in_pieces() -> None:
    data = encode(scene("RGB", (40, 30)), "png") + bytes(3_000_000)
    blob = OneBlob(data)
    picture = await StoredPicture.open(blob, "ses", ref(data), MARK)
    pieces = [piece async for piece in stored_pieces(picture)]
    assert b"".join(pieces) == MARK.written(data)
    assert all(len(piece) % 3 == 0 for piece in pieces[:-1])
    read = sum(end - start for start, end in blob.reads)
    assert read < len(data) + 100_000 and max(end - start for start, end in blob.reads) < 800_000


async def test_an_unmarked_picture_is_read_as_it_is_without_its_head() -> None:
    blob = OneBlob(b"0123456789")
    picture = await StoredPicture.open(blob, "ses", ref(blob.data), UNMARKED)
    assert [piece async for piece in stored_pieces(picture, 2, 5)] == [b"234"] and blob.reads == [(2, 5)]


@pytest.mark.parametrize(
    ("candidate", "source_type"),
    [
        (Candidate(1, 1, 0), marks.EDITED_BY_MODEL),
        (Candidate(1, 1, 0, trained=False), marks.EDITED_BY_ALGORITHM),
        (Candidate(1, 1, 0, unchanged=True), None),
    ],
)
def test_a_candidate_is_marked_by_what_made_it(candidate: Candidate, source_type: str | None) -> None:
    session = Session(created(ref(b"x")))
    assert Marks().of_candidate("ses", session, candidate).source_type == source_type
    assert Marks(enabled=False).of_candidate("ses", session, candidate).source_type is None


CARRIED = Carried(source_type=marks.GENERATED, c2pa="valid", manifest="1" * 64, bytes=77)


def test_what_an_editor_says_of_its_own_file_is_the_pictures() -> None:
    """It says more than that the picture was edited. Its manifests count as bytes of the session."""
    session = Session(created(ref(b"x")))
    assert Marks().of_candidate("ses", session, Candidate(1, 1, 0, carried=CARRIED)).source_type == marks.GENERATED
    started = TurnStarted(at=1, turn=1, instruction="x", author="caller", candidates=1, first_seed=0)
    begun = EditStarted(at=2, turn=1, candidate=1, attempt=1, key="1/1", seed=0)
    edited = Edited(at=3, turn=1, candidate=1, image=ref(b"xy"), editor_seconds=1, carried=CARRIED)
    folded = fold([session.created, started, begun, edited])
    assert next(iter(folded.candidates)).carried == CARRIED and folded.image_bytes == 1 + 2 + 77
    assert "carried" not in edited.model_copy(update={"carried": None}).model_dump()


def test_a_generated_reference_makes_a_composite() -> None:
    """A part of the picture, even of one that an algorithm edited."""
    other = ImageRef(sha256="2" * 64, media_type="image/png", bytes=1, width=6, height=4)
    session = Session(created(ref(b"x")).model_copy(update={"references": (other,), "carried": {other.sha256: CARRIED}}))
    assert Marks().of_candidate("ses", session, Candidate(1, 1, 0, trained=False)).source_type == marks.EDITED_BY_MODEL


def test_marks_have_entity_tags_of_their_own() -> None:
    assert len({UNMARKED.tag, MARK.tag, Mark(marks.EDITED_BY_ALGORITHM).tag}) == 3
