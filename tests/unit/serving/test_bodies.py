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
