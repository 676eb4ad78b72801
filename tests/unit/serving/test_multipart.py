"""Forms are read completely or refused, in any pieces."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import UploadFile
from starlette.requests import Request

from services.errors import ApiError
from services.serving import multipart
from services.serving.multipart import check_charset, open_form


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


FILE = bytes(range(256)) * 8 + b"\r\n--b\r\r\n-" * 3
FORM = part("image", FILE, '; filename="a.png"') + part("prompt", "wärmer".encode()) + part("prompt", b"") + b"--b--\r\n"


def request(pieces: Sequence[bytes], content_type: str = "multipart/form-data; boundary=b") -> Request:
    messages: Iterator[dict[str, Any]] = iter(
        [*({"type": "http.request", "body": piece, "more_body": True} for piece in pieces), {"type": "http.request", "body": b""}]
    )

    async def receive() -> Any:
        return next(messages)

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}, receive)


async def read(*pieces: bytes, **limits: Any) -> list[tuple[str, str | bytes]]:
    async with open_form(request(pieces), **limits) as form:
        return [(name, await value.read() if isinstance(value, UploadFile) else value) for name, value in form.multi_items()]


async def refusal(*pieces: bytes, **limits: int) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        await read(*pieces, **limits)
    return caught.value.code, caught.value.message


@given(cuts=st.lists(st.integers(0, len(FORM)), max_size=8).map(sorted))
@settings(max_examples=60, deadline=None)
async def test_a_form_is_the_same_in_any_pieces(cuts: list[int]) -> None:
    """Also where a piece ends within a boundary, or is empty."""
    pieces = [FORM[start:end] for start, end in zip([0, *cuts], [*cuts, len(FORM)], strict=True)]

    assert await read(*pieces) == [("image", FILE), ("prompt", "wärmer"), ("prompt", "")]


@given(end=st.integers(0, len(FORM) - 3))
@settings(max_examples=60, deadline=None)
async def test_no_prefix_of_a_form_is_a_form(end: int) -> None:
    """Without its closing boundary a form may lack a field."""
    assert await refusal(FORM[:end]) == (
        "invalid_multipart",
        "the form was cut short: its closing boundary is missing; send it again, whole",
    )


async def test_a_large_file_goes_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is read from its start."""
    monkeypatch.setattr(multipart, "_SPOOL_SIZE", 100)
    async with open_form(request([FORM])) as form:
        file = form["image"]
        assert isinstance(file, UploadFile)
        assert file.file._rolled  # type: ignore[attr-defined]
        assert await file.read() == FILE
    assert file.file.closed


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (part("a", b"") * 4 + b"--b--", "Too many fields. Maximum number of fields is 3."),
        (part("a", b"", '; filename="a"') * 3 + b"--b--", "Too many files. Maximum number of files is 2."),
        (part("a", b"x" * (1024 * 1024 + 1)) + b"--b--", "Part exceeded maximum size of 1024KB."),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", '"name" must be provided'),
        (b"--b\r\nx-a: b\r\n\r\nx\r\n--b--", '"name" must be provided'),
        (b"--c\r\n\r\n", "Invalid multipart data."),
    ],
)
async def test_a_form_beyond_its_limits_is_refused(form: bytes, words: str) -> None:
    """By name of the limit; so is one that is malformed."""
    code, message = await refusal(form, max_files=2, max_fields=3)

    assert code == "invalid_multipart" and words in message


async def test_a_type_without_a_boundary_is_refused() -> None:
    """Before the body is read."""
    with pytest.raises(ApiError, match="Missing boundary"):
        async with open_form(request([], "multipart/form-data")):
            pass


async def test_a_text_that_is_not_utf_8_names_its_field() -> None:
    """It is not read as Latin-1."""
    with pytest.raises(ApiError) as caught:
        await read(part("prompt", b"caf\xe9") + b"--b--")

    assert (caught.value.code, caught.value.param) == ("invalid_value", "prompt")


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", '; charset="UTF-8"', "; charset=us-ascii"])
def test_forms_in_utf_8_are_read(charset: str) -> None:
    """In any spelling."""
    check_charset(f"multipart/form-data; boundary=b{charset}")


@pytest.mark.parametrize("charset", ["punycode", "idna", "zlib", "unicode_escape", "UTF-16", '"punycode"', "", "Punycode"])
def test_forms_in_other_charsets_are_refused(charset: str) -> None:
    """Some of Python's codecs take hours for a megabyte."""
    with pytest.raises(ApiError) as caught:
        check_charset(f"multipart/form-data; CHARSET={charset}; boundary=b")
    assert caught.value.code == "unsupported_media_type"


@pytest.mark.parametrize("name", ["image", "image[]", "mask"])
async def test_a_file_is_stopped_at_its_limit_while_it_arrives(name: str) -> None:
    """To the byte; the rest of the body is not read."""
    head = part(name, b"", '; filename="a.png"').removesuffix(b"\r\n")
    assert await read(head, b"a" * 1000, b"\r\n--b--\r\n", max_file_bytes=1000) == [(name, b"a" * 1000)]

    arrived = 0

    def endless() -> Iterator[bytes]:
        nonlocal arrived
        yield head
        while True:
            arrived += 100
            yield b"a" * 100

    pieces = endless()

    async def receive() -> Any:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    with pytest.raises(ApiError) as caught:
        async with open_form(Request({"type": "http", "method": "POST", "headers": headers}, receive), max_file_bytes=1000):
            pass
    assert (caught.value.code, caught.value.param) == ("image_too_large", name.removesuffix("[]"))
    assert arrived <= 1200


@pytest.mark.parametrize("spool", [0, 1 << 20])
async def test_a_full_disk_is_told_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spool: int) -> None:
    """A limit on the size of files, in place of a full disk: where the file is written, and where it is flushed."""
    monkeypatch.setattr(multipart, "_SPOOL_SIZE", 2000 + spool)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    form = part("image", b"a" * (2000 + spool + 1), '; filename="a.png"') + b"--b--\r\n"
    try:
        assert (await refusal(form))[0] == "storage_full"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert (await read(form))[0][0] == "image"
