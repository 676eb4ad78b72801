"""The CSV files that people have: with and without a head, from spreadsheets, and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from editthinker.cli.failures import UsageError
from editthinker.cli.prompts import items
from tests.component.client.scripted import PNG


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "sub/a.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    return tmp_path


def read(folder: Path, data: bytes | str, *photos: str) -> list[tuple[str, str]]:
    file = folder / "prompts.csv"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    found = items([folder / photo for photo in photos], None, file)
    return [(str(item.photo.relative_to(folder)), item.instruction) for item in found]


@pytest.mark.parametrize(
    "data",
    [
        'photo,instruction\na.png,warmer\nb.png,"colder, bluer"\n',
        'a.png,warmer\nb.png,"colder, bluer"',
        b"\xef\xbb\xbfinstruction;who;Image\r\nwarmer;me;a.png\r\n;;\r\ncolder, bluer;me;b.png\r\n",
        "file\tprompt\na.png\twarmer\nb.png\tcolder, bluer\n",
    ],
)
def test_a_row_is_a_photo_and_its_instruction(folder: Path, data: bytes | str) -> None:
    assert read(folder, data) == [("a.png", "warmer"), ("b.png", "colder, bluer")]


def test_photos_of_the_command_line_choose_rows(folder: Path) -> None:
    """By file name or path; a photo may have several rows."""
    data = "b.png,warmer\na.png,colder\nsub/a.png,bluer\n"
    assert read(folder, data, "b.png") == [("b.png", "warmer")]
    assert read(folder, data, "sub/a.png") == [("sub/a.png", "colder"), ("sub/a.png", "bluer")]
    assert read(folder, data, "a.png", "sub/a.png")[:2] == [("a.png", "colder"), ("sub/a.png", "colder")]


@pytest.mark.parametrize(
    ("data", "photos", "says"),
    [
        ("", [], "has no rows"),
        ("photo,instruction\n", [], "has no rows"),
        ("photo,instruction\na.png,\n", [], r"prompts.csv, row 2: write photo and instruction"),
        ("a.png\n", [], r"prompts.csv, row 1: write photo and instruction"),
        (b"a.png,\xff\n", [], "not a CSV file in UTF-8"),
        ('a.png,"warmer\n', [], "not a CSV file in UTF-8: unexpected end of data"),
        ("missing.png,warmer\n", [], r"missing\.png: No such file"),
        ("prompts.csv,warmer\n", [], r"prompts\.csv is not an image"),
        ("a.png,warmer\n", ["a.png", "b.png"], r"has no row for .*b\.png"),
        ("a.png,warmer\na.png,warmer\n", [], r"a\.png is listed twice with the same instruction: warmer"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(folder: Path, data: bytes | str, photos: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read(folder, data, *photos)
