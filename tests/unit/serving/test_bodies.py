"""Limits on a request's body before it is interpreted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request

from services.errors import ApiError
from services.imaging.codec import check_image, open_image, sniff
from services.serving import middleware
from services.serving.middleware import BodyTooSlowError, read_json
from tests.doubles.clock import manual_time
from tests.doubles.waiting import turns


def request(*pieces: bytes) -> Request:
    messages: Iterator[dict[str, Any]] = iter(
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)} for number, piece in enumerate(pieces, start=1)
    )

    async def receive() -> Any:
        return next(messages)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize("body", [b"[" + b"{}," * 200_000 + b"1]", b"[" * 300_000, b"1," * 300_000])
async def test_json_of_many_values_is_refused_before_it_is_built(body: bytes) -> None:
    """Three bytes would become a hundred."""
    with pytest.raises(ApiError, match="200,000 values") as caught:
        await read_json(request(body))
    assert caught.value.code == "invalid_json"


async def test_json_is_read_in_pieces_up_to_its_bound() -> None:
    """To the byte."""
    assert await read_json(request(b'{"a":', b" 1}"), max_bytes=8) == {"a": 1}
    with pytest.raises(ApiError) as caught:
        await read_json(request(b'{"a":', b" 11}"), max_bytes=8)
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_stands_behind_a_picture_is_not_passed_on(kind: str) -> None:
    """The plain picture is passed on unchanged, without data appended to it."""
    buffer = io.BytesIO()
    Image.new("RGB", (31, 17), (200, 90, 30)).save(buffer, kind)
    data = buffer.getvalue()

    assert check_image(open_image(data)).data == data
    for more in (b"\x00", b"<html>", data):
        info = check_image(open_image(data + more))
        passed = info.data
        assert passed == data
        assert (info.media_type, info.width, info.height) == (sniff(data), 31, 17)


async def test_a_body_must_keep_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is too slow, however regular; more of it buys time."""
    monkeypatch.setattr(middleware, "_CHUNK_TIMEOUT_S", 1.0)
    monkeypatch.setattr(middleware, "_MIN_BODY_RATE", 100)

    clock = manual_time(monkeypatch, middleware)

    async def read(size: int) -> None:
        async def receive() -> Any:
            await turns(2)
            clock.advance(0.05)
            return {"type": "http.request", "body": b"a" * size, "more_body": True}

        body = middleware._Body(receive, 1_000_000)
        for _ in range(40):
            await body.receive()

    with pytest.raises(BodyTooSlowError):
        await read(1)
    await read(20)


@pytest.mark.parametrize(("largest_s", "credit_s"), [(1e9, 2.0), (10.0, 1e9)])
async def test_bytes_that_came_fast_do_not_buy_hours(monkeypatch: pytest.MonkeyPatch, largest_s: float, credit_s: float) -> None:
    """98 MB at once, and then a byte a second: the credit has a bound, and so has the time of the whole body."""
    monkeypatch.setattr(middleware, "_CHUNK_TIMEOUT_S", 2.0)
    monkeypatch.setattr(middleware, "_MAX_BODY_CREDIT_S", credit_s)
    monkeypatch.setattr(middleware, "_MAX_BODY_S", largest_s)
    clock = manual_time(monkeypatch, middleware)
    received = 0

    async def receive() -> Any:
        nonlocal received
        received += 1
        if received > 1:
            await turns(2)
            clock.advance(1.0)
        return {"type": "http.request", "body": b"a" * (1 if received > 1 else 98_000_000), "more_body": True}

    body = middleware._Body(receive, 100_000_000)
    with pytest.raises(BodyTooSlowError):  # noqa: PT012 - until it is refused
        for _ in range(100):
            await body.receive()
    assert received <= 15


async def test_the_servers_own_time_is_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that waits for space here may take as long as it does."""
    clock = manual_time(monkeypatch, middleware)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"a", "more_body": True}

    body = middleware._Body(receive, 100)
    for _ in range(50):
        await body.receive()
        clock.advance(10_000.0)


async def test_values_are_counted_as_they_arrive() -> None:
    """A body that has too many is refused at the piece that exceeds the bound, and the rest is not received."""

    def pieces() -> Iterator[dict[str, Any]]:
        yield {"type": "http.request", "body": b"[" * 150_000, "more_body": True}
        yield {"type": "http.request", "body": b"[" * 150_000, "more_body": True}
        pytest.fail("it continued to receive")

    messages = pieces()

    async def receive() -> Any:
        return next(messages)

    with pytest.raises(ApiError, match="200,000 values"):
        await read_json(Request({"type": "http", "method": "POST", "headers": []}, receive))
