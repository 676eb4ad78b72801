"""Pictures as callers have them: paths, bytes, open files, PIL images; one, several, and a mask."""

from __future__ import annotations

import io
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editthinker.client import InvalidImageError
from tests.component.client.conftest import Use
from tests.component.client.scripted import PNG, Asked, as_json, in_turn, scripted, session


def parts_of(asked: Asked) -> list[tuple[str, str | None, bytes]]:
    """Field name, file name and bytes of every part of a form."""
    form = message_from_bytes(b"content-type: " + asked.headers["content-type"].encode() + b"\r\n\r\n" + asked.body)
    found = []
    for part in form.walk():
        if not part.is_multipart():
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            name = str(part.get_param("name", header="content-disposition"))
            found.append((name, part.get_filename(), data))
    return found


def sent(use: Use, image: Any, **options: Any) -> list[tuple[str, str | None, bytes]]:
    """The files of a request for a session."""
    with scripted(in_turn(as_json(session("queued"), 202))) as server:
        use(server.base_url, lambda client: client.sessions.create(image, "x", **options))
    return [each for each in parts_of(server.asked[0]) if each[1] is not None]


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "memoryview", "file", "buffer"])
def test_every_kind_of_picture_is_sent_as_its_bytes(use: Use, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        given: dict[str, tuple[Any, str]] = {
            "path": (path, "photo.png"),
            "text": (str(path), "photo.png"),
            "bytes": (PNG, "image"),
            "bytearray": (bytearray(PNG), "image"),
            "memoryview": (memoryview(PNG), "image"),
            "file": (file, "photo.png"),
            "buffer": (io.BytesIO(PNG), "image"),
        }
        image, name = given[kind]
        assert sent(use, image) == [("image", name, PNG)]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "YCbCr", "F"])
def test_a_pil_image_is_sent_as_png(use: Use, mode: str) -> None:
    ((name, filename, data),) = sent(use, Image.new(mode, (3, 2)))
    assert (name, filename) == ("image", "image.png")
    with Image.open(io.BytesIO(data)) as shown:
        assert (shown.format, shown.size) == ("PNG", (3, 2))


def test_the_orientation_of_a_pil_image_is_sent_with_it(use: Use) -> None:
    """Pillow does not turn a photograph that it opens, so the server has to."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(buffer, "JPEG", exif=exif)
    ((_, _, data),) = sent(use, Image.open(buffer))
    with Image.open(io.BytesIO(data)) as shown:
        assert shown.getexif()[0x0112] == 6


def test_several_pictures_and_a_mask_are_spelt_as_openai_does(use: Use) -> None:
    other = PNG + b"2"
    assert [each[0::2] for each in sent(use, [PNG, other], mask=PNG)] == [("image[]", PNG), ("image[]", other), ("mask", PNG)]
    assert [each[0::2] for each in sent(use, (PNG,), mask=None)] == [("image", PNG)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "image is an empty list"),
        ([PNG, b"text"], "image 2 is not an image"),
        ("https://example.com/a.png", "image is a URL; fetch it"),
        (io.StringIO("text"), "open it with mode 'rb'"),
        (7, "image is int; give a path, bytes, an open file or a PIL image"),
        (io.BytesIO(), "image is empty"),
    ],
)
def test_what_is_no_picture_is_refused_before_anything_is_sent(use: Use, given: Any, says: str) -> None:
    with scripted(in_turn(as_json({}))) as server, pytest.raises(InvalidImageError, match=says):
        use(server.base_url, lambda client: client.sessions.create(given, "x"))
    assert server.asked == []
