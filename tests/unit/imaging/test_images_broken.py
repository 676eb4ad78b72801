"""Broken, hostile and foreign bytes: refused with the field and the fix, or taken with every pixel."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from services.errors import ApiError
from services.imaging.codec import CheckedImage, ImageInfo, ImageLimits, check_image, decode, digest, inspect, open_image
from services.imaging.containers import is_complete
from tests.unit.imaging import pictures as pic
from tests.unit.imaging.pictures import BIG, EVERYTHING, HEIGHT, PLAIN, WIDTH, opened, pixels, saved, scene

# What Pillow warns of in broken files is not this module's business.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def accepted_or_code(data: bytes) -> CheckedImage | str:
    try:
        return check_image(open_image(data))
    except ApiError as exc:
        return exc.code


def opened_and_accepted(data: bytes, **options: Any) -> CheckedImage:
    return check_image(open_image(data, **options))


def _refused(data: bytes, code: str = "invalid_image", **options: Any) -> str:
    for read in (inspect, opened_and_accepted, decode):
        with pytest.raises(ApiError) as caught:
            read(data, param="mask", **options)
        assert (caught.value.code, caught.value.param) == (code, "mask")
        assert "mask" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000"])
def test_other_kinds_of_picture_are_refused_with_the_fix(kind: str) -> None:
    """A readable picture of another kind is not taken: each kind is one more decoder to attack."""
    assert "convert it to one of these" in _refused(saved(scene(), kind))


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
        b"%PDF-1.7\n",
        b"hello",
        b"\0",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x04\0\0\0WEBP",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        base64.b64encode(PLAIN["rgb png"]),
        b" " + PLAIN["rgb png"],
        pic.png((0, 4), 8, 2, b""),
        pic.png((4, 0), 8, 2, b""),
        pic.png((4, 4), 7, 2, b"\0" * 64),
        pic.png((4, 4), 8, 9, b"\0" * 64),
        pic.SIGNATURE + pic.chunk(b"IEND", b""),
        pic.SIGNATURE + pic.chunk(b"IDAT", zlib.compress(b"\0" * 99)) + pic.chunk(b"IEND", b""),
    ],
)
def test_what_is_no_picture_is_refused_with_the_fix(data: bytes) -> None:
    """Text, other files, bare headers and impossible sizes."""
    assert "PNG, JPEG or WebP" in _refused(data)


def test_nothing_at_all_is_a_missing_file() -> None:
    """An empty part and a broken one are different errors."""
    assert "is empty" in _refused(b"", "missing_parameter")


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_moving_pictures_are_refused(kind: str) -> None:
    """Nobody knows which frame was meant."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]

    assert "send a single frame" in _refused(saved(frames[0], kind, save_all=True, append_images=frames[1:]))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any) -> None:
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize(
    "data",
    [
        pic.png((60_000, 60_000), 8, 2, b"\0"),
        pic.png((20_000, 20_000), 1, 0, bytes(20_000 * 2_501)),
        pic.png((8_000, 8_000), 1, 0, bytes(8_000 * 1_001)),
        pic.png((2**31 - 1, 1), 8, 0, b"\0"),
        pic.png((1, 30_001), 8, 0, b"\0"),
        saved(Image.new("1", (30_001, 1)), "PNG"),
    ],
    ids=["claimed", "real", "below Pillow's limit", "widest", "tall", "wide"],
)
def test_a_bomb_costs_a_header(no_decoding: None, data: bytes) -> None:
    """Too many pixels are refused by the header, at once; the message says how many are allowed or what to do."""
    assert len(data) < 200_000

    assert "send a smaller one" in _refused(data, "image_too_large")


def test_limits_are_the_callers(no_decoding: None) -> None:
    """Bytes, pixels and sides, each up to its limit and not beyond."""
    data = PLAIN["rgb png"]
    inspect(data, limits=ImageLimits(max_bytes=len(data), max_pixels=WIDTH * HEIGHT, max_side=WIDTH))

    for limits in (
        ImageLimits(max_bytes=len(data) - 1),
        ImageLimits(max_pixels=WIDTH * HEIGHT - 1),
        ImageLimits(max_side=WIDTH - 1),
    ):
        _refused(data, "image_too_large", limits=limits)


def test_a_text_bomb_in_a_png_is_refused() -> None:
    """A compressed text of many megabytes does not unfold."""
    bomb = pic.chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))

    _refused(pic.png((1, 1), 8, 2, b"\0\1\2\3", before=bomb))


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_strange_but_sound_sizes_are_taken(size: tuple[int, int]) -> None:
    """One pixel, and one row of many."""
    data = saved(Image.new("RGB", size, (1, 2, 3)), "PNG")

    assert check_image(open_image(data)) == CheckedImage.hashed(data, ImageInfo("image/png", *size))


@pytest.mark.parametrize("kind", BIG)
@given(part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_a_cut_file_never_gives_a_half_picture(kind: str, part: float) -> None:
    """A truncated file is refused, unless every pixel is there: then it is passed on whole."""
    whole = BIG[kind]
    result = accepted_or_code(whole[: int(len(whole) * part)])
    if isinstance(result, str):
        assert result in {"invalid_image", "missing_parameter"}
    else:
        assert is_complete(result.data)
        assert pixels(opened(result.data)) == pixels(opened(whole))


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_png_without_its_end_is_not_passed_on_as_it_is(cut: int) -> None:
    """Pillow reads a PNG whose last chunk is missing; what we pass on has one."""
    result = accepted_or_code(BIG["PNG"][:-cut])

    assert result == "invalid_image" if isinstance(result, str) else is_complete(result.data)
    assert check_image(open_image(BIG["PNG"])).data is BIG["PNG"]


TARGETS = [*EVERYTHING.values(), *BIG.values(), pic.thumbnailed()]


@given(data=st.sampled_from(TARGETS), flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=4))
@settings(max_examples=200, deadline=None)
def test_flipped_bits_give_a_picture_or_our_error(data: bytes, flips: list[tuple[float, int]]) -> None:
    """A file that is damaged anywhere gives an `ApiError`, or a picture that decodes again."""
    broken = bytearray(data)
    for place, bit in flips:
        broken[int(place * len(broken))] ^= 1 << bit
    result = accepted_or_code(bytes(broken))
    if isinstance(result, str):
        assert result in {"invalid_image", "image_too_large"}
    else:
        assert decode(result.data).size == (result.width, result.height)
        assert result.sha256 == digest(result.data)


@given(tail=st.binary(max_size=64), head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBPVP8 "]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_picture_or_our_error(head: bytes, tail: bytes) -> None:
    """No bytes make us raise anything else, nor look whole by chance and then fail to open."""
    is_complete(head + tail)
    with pytest.raises(ApiError):
        check_image(open_image(head + tail))


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_whole_file_is_complete(name: str) -> None:
    """For every kind of file that Pillow writes."""
    assert is_complete(EVERYTHING[name])


@pytest.mark.parametrize("name", ["rgb png", "rgba png", "rgb jpeg", "progressive jpeg", "grey jpeg", "rgb webp", "rgba webp"])
def test_no_prefix_is_complete(name: str) -> None:
    """A connection that breaks at any byte is noticed."""
    data = PLAIN[name]

    assert [end for end in range(len(data)) if is_complete(data[:end])] == []


def test_a_thumbnail_does_not_end_a_jpeg() -> None:
    """A camera's JPEG cut after the small JPEG inside its EXIF block is not complete."""
    data = pic.thumbnailed()

    assert is_complete(data)
    assert [end for end in range(len(data)) if is_complete(data[:end])] == []


def test_what_follows_a_jpeg_does_not_matter() -> None:
    """Phones append data after the end marker, servers a line end."""
    assert is_complete(PLAIN["rgb jpeg"] + b"\n")
    assert is_complete(PLAIN["rgb jpeg"] + b"\0" * 9)


@given(
    place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), name=st.sampled_from(["rgb png", "rgba png", "grey png"])
)
@settings(max_examples=200, deadline=None)
def test_no_changed_byte_of_a_png_goes_unnoticed(place: float, change: int, name: str) -> None:
    """Every byte is under a checksum, or is one, or is the signature."""
    data = bytearray(PLAIN[name])
    data[int(place * len(data))] ^= change

    assert not is_complete(bytes(data))
