"""Metadata is removed and the picture kept, part by part, in every format."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import ApiError
from services.imaging.codec import check_image, decode, open_image, sniff
from services.imaging.containers import strip_metadata
from tests.unit.imaging import pictures as pic
from tests.unit.imaging.pictures import EVERYTHING, PLAIN, opened, pixels, saved, scene

# What Pillow warns of in broken files is not this module's business.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SECRET = b"SECRET 48.2,16.3"


def png_with(kind: bytes, content: bytes) -> bytes:
    return PLAIN["rgb png"][:33] + pic.chunk(kind, content) + PLAIN["rgb png"][33:]


def jpeg_with(marker: int, content: bytes) -> bytes:
    return PLAIN["rgb jpeg"][:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + PLAIN["rgb jpeg"][2:]


def webp_with(kind: bytes, content: bytes, name: str = "rgb webp") -> bytes:
    body = PLAIN[name][8:] + kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


EXTRA_PARTS = {
    **{f"png {kind.decode()}": png_with(kind, b"a\0" + SECRET) for kind in (b"tEXt", b"sPLT", b"hIST", b"aBCd", b"prVt")},
    **{
        f"png {kind.decode()}": png_with(kind, b"a\0" + SECRET) for kind in (b"tIME", b"eXIf", b"oFFs", b"sTER", b"gIFx", b"vpAg")
    },
    "png pHYs": png_with(b"pHYs", SECRET),
    "png bKGD": png_with(b"bKGD", SECRET),
    "png cICP": png_with(b"cICP", SECRET),
    "png a palette in RGB": png_with(b"PLTE", SECRET + b"xx"),
    "png a page behind it": PLAIN["rgb png"] + SECRET,
    "jpeg JFXX": jpeg_with(0xE0, b"JFXX\0" + SECRET),
    "jpeg a second JFIF": jpeg_with(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0" + SECRET),
    "jpeg APP0": jpeg_with(0xE0, SECRET),
    "jpeg APP14": jpeg_with(0xEE, SECRET),
    "jpeg comment": jpeg_with(0xFE, SECRET),
    "jpeg EXIF": jpeg_with(0xE1, SECRET),
    "jpeg APP15": jpeg_with(0xEF, SECRET),
    "jpeg a page behind it": PLAIN["rgb jpeg"] + SECRET,
    "webp unknown": webp_with(b"ABCD", SECRET),
    "webp unknown behind alpha": webp_with(b"ABCD", SECRET, "rgba webp"),
    "webp EXIF": saved(scene(), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + SECRET),
}


@pytest.mark.parametrize("name", EXTRA_PARTS)
def test_parts_other_than_the_picture_are_removed(name: str) -> None:
    """Known and unknown parts are removed; every pixel and the file's type stay."""
    data = EXTRA_PARTS[name]
    info = check_image(open_image(data))
    accepted = info.data

    assert SECRET in data and SECRET not in accepted
    assert pixels(opened(accepted).convert("RGBA")) == pixels(opened(data).convert("RGBA"))
    assert info.media_type == sniff(data)
    assert check_image(open_image(accepted)).data is accepted


@pytest.mark.parametrize("name", [name for name in EXTRA_PARTS if name != "png cICP"])
def test_it_is_removed_without_re_encoding(name: str) -> None:
    """The picture's own parts are the bytes that they were."""
    plain = {"png": "rgb png", "jpeg": "rgb jpeg"}.get(name.partition(" ")[0])

    assert strip_metadata(EXTRA_PARTS[name]) is not None
    if plain:
        assert strip_metadata(EXTRA_PARTS[name]) == PLAIN[plain]


def test_adobes_mark_is_cut_to_its_length() -> None:
    """It declares how the colours are stored, so it is kept; data appended to it is not."""
    rgb = saved(scene(), "JPEG", keep_rgb=True)
    assert b"Adobe" in rgb
    at = rgb.index(b"\xff\xee")
    size = int.from_bytes(rgb[at + 2 : at + 4], "big")
    longer = rgb[: at + 2] + struct.pack(">H", size + len(SECRET)) + rgb[at + 4 : at + 2 + size] + SECRET + rgb[at + 2 + size :]
    accepted = check_image(open_image(longer)).data

    assert accepted == rgb
    assert pixels(opened(accepted)) == pixels(opened(longer))


def test_a_jfif_thumbnail_goes() -> None:
    """The head that says how the colours are stored stays."""
    data = PLAIN["rgb jpeg"]
    head = data[:2] + b"\xff\xe0" + struct.pack(">H", 16 + 12) + data[6:18] + b"\x02\x02" + SECRET[:12] + data[20:]
    accepted = check_image(open_image(head)).data

    assert SECRET[:12] not in accepted and accepted == data


def test_an_alpha_that_nobody_looks_at_goes() -> None:
    """A simple WebP has none, even if the file holds a chunk of that name."""
    vp8 = saved(scene(), "WEBP")[12:]
    for body in (
        b"ALPH" + struct.pack("<I", len(SECRET)) + SECRET + vp8,
        vp8 + b"ALPH" + struct.pack("<I", len(SECRET)) + SECRET,
    ):
        data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
        try:
            accepted = check_image(open_image(data)).data
        except ApiError:
            continue
        assert SECRET not in accepted


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_stripped_picture_is_the_same_picture(name: str) -> None:
    """And stripping again changes nothing."""
    made = strip_metadata(EVERYTHING[name])
    if made is not None:
        assert pixels(opened(made).convert("RGBA")) == pixels(opened(EVERYTHING[name]).convert("RGBA"))
        assert strip_metadata(made) is made
        assert b"SECRET" not in made.upper()


@pytest.mark.parametrize("name", PLAIN)
def test_a_cut_file_is_not_stripped(name: str) -> None:
    """What does not end as it should is not taken for whole."""
    data = strip_metadata(PLAIN[name])
    assert data is not None
    assert [
        end for end in range(len(data)) if strip_metadata(data[:end]) is not None and strip_metadata(data[:end]) == data[:end]
    ] == []


@given(data=st.binary(max_size=200), head=st.sampled_from([b"", pic.SIGNATURE, b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBPVP8 "]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_stripped_or_not(data: bytes, head: bytes) -> None:
    """Nothing is raised."""
    strip_metadata(head + data)


def test_a_curve_of_its_own_is_brought_to_srgb() -> None:
    """gAMA 1.0 says that the numbers are light itself: the middle of light is 188, not 128."""
    linear = pic.png((1, 1), 8, 2, b"\0\x80\0\xff", before=pic.chunk(b"gAMA", struct.pack(">I", 100_000)))
    info = check_image(open_image(linear))
    accepted = info.data

    assert info.media_type == "image/png"
    assert pixels(opened(accepted)) == pixels(decode(linear)) == [(188, 0, 255)]
    for mark in (pic.chunk(b"gAMA", struct.pack(">I", 45_455)), pic.chunk(b"sRGB", b"\0") + pic.chunk(b"gAMA", b"\0\1\x86\xa0")):
        assert pixels(decode(pic.png((1, 1), 8, 2, b"\0\x80\0\xff", before=mark))) == [(128, 0, 255)]
