"""The events of a streamed edit, however their bytes arrive."""

from __future__ import annotations

import json

import orjson
import pytest

from orchestrator.upstreams.event_stream import EventStream


def event(kind: str, ending: str = "\n", **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}{ending}data: {data}{ending}{ending}".encode()


PARTIAL = event("image_edit.partial_image", partial_image_index=0, b64_json="AAAA")
COMPLETED = event("image_edit.completed", b64_json="BBBB", timings={"edit_ms": 3})


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_pictures_are_found_however_the_bytes_are_cut(step: int, ending: str) -> None:
    sent = b": keep-alive\n\n" + event("image_edit.progress", ending, step=1)
    sent += event("image_edit.partial_image", ending, partial_image_index=0, b64_json="AAAA") + COMPLETED
    stream = EventStream()
    seen = [picture for at in range(0, len(sent), step) for picture in stream.add(sent[at : at + step])]

    assert [picture["b64_json"] for picture in seen] == ["AAAA"]
    assert stream.completed is not None and stream.completed["timings"] == {"edit_ms": 3}
    assert stream.size == len(sent)


def test_servers_that_name_no_event_are_understood() -> None:
    """The type is in the data as well; a last `[DONE]` is no event."""
    sent = b"".join(line + b"\n" for line in (PARTIAL + COMPLETED).split(b"\n") if not line.startswith(b"event"))
    stream = EventStream()
    assert len(stream.add(sent + b"data: [DONE]\n\n")) == 1
    assert stream.completed is not None


def test_the_first_result_stays() -> None:
    stream = EventStream()
    stream.add(COMPLETED + event("image_edit.completed", b64_json="CCCC"))
    assert stream.completed is not None and stream.completed["b64_json"] == "BBBB"


def test_an_error_ends_it() -> None:
    body = json.dumps({"error": {"code": "edit_failed", "message": "no"}})
    stream = EventStream()
    assert stream.add(f"event: error\ndata: {body}\n\n".encode()) == []
    assert stream.error is not None and orjson.loads(stream.error)["error"]["code"] == "edit_failed"


@pytest.mark.parametrize("data", [b"{", b'{"type": "image_edit.completed"', b"\xff"])
def test_an_event_that_is_not_json_is_an_error(data: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        EventStream().add(b"event: image_edit.completed\ndata: " + data + b"\n\n")


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"image_edit.completed"'])
def test_what_is_no_object_is_passed_over(data: bytes) -> None:
    stream = EventStream()
    assert stream.add(b"data: " + data + b"\n\n") == []
    assert stream.completed is None
