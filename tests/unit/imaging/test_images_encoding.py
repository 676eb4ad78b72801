"""Pictures on their way out: every format and quality, and base64 both ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.errors import ApiError
from services.imaging.codec import (
    UNLIMITED,
    ImageInfo,
    MediaType,
    OutputFormat,
    data_url,
    decode,
    digest,
    encode,
    from_base64,
    inspect,
    sniff,
    to_base64,
    transcode,
)
from services.imaging.containers import is_complete
from tests.unit.imaging import pictures as pic
from tests.unit.imaging.pictures import HEIGHT, PLAIN, WIDTH, opened, pixels, saved, scene

KINDS: list[tuple[OutputFormat, MediaType]] = [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")]


@pytest.mark.parametrize(("output_format", "media_type"), KINDS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("compression", [None, 0, 50, 100])
def test_encoding(output_format: OutputFormat, media_type: MediaType, mode: str, compression: int | None) -> None:
    """Every format at every quality gives a whole file of that type and size; PNG keeps every pixel."""
    image = scene(mode)
    data = encode(image, output_format, compression)

    assert inspect(data) == ImageInfo(media_type, WIDTH, HEIGHT)
    assert is_complete(data)
    if output_format == "png":
        assert pixels(opened(data)) == pixels(image)


def test_compression_compresses() -> None:
    """A lower number gives a smaller file."""
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    for output_format in ("jpeg", "webp"):
        sizes = [len(encode(image, output_format, quality)) for quality in (5, 50, 95)]
        assert sizes == sorted(sizes) and sizes[0] < sizes[2]


def test_transparency_is_laid_on_white_for_jpeg() -> None:
    """What is clear looks white, not black."""
    pixel: Any = opened(encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "jpeg")).getpixel((4, 4))

    assert min(pixel) > 250


@pytest.mark.parametrize(("output_format", "media_type"), KINDS)
@pytest.mark.parametrize("name", ["rgb png", "rgb jpeg", "rgba webp", "grey png"])
def test_transcoding(output_format: OutputFormat, media_type: MediaType, name: str) -> None:
    """The bytes themselves where they are of that format already; else the same picture in it."""
    data = PLAIN[name]
    result = transcode(data, output_format)

    assert (result is data) == (sniff(data) == media_type)
    assert inspect(result) == ImageInfo(media_type, WIDTH, HEIGHT)


def test_transcoding_with_another_quality_encodes_again() -> None:
    """A quality asked for is honoured even where the format fits; PNG has none."""
    data = saved(Image.effect_noise((64, 64), 80), "JPEG", quality=95)

    assert len(transcode(data, "jpeg", 10)) < len(data) / 2
    assert transcode(PLAIN["rgb png"], "png", 10) is PLAIN["rgb png"]


@pytest.mark.parametrize(("output_format", "media_type"), KINDS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "reduced"),
    [((400, 100), (64, 16)), ((99, 300), (21, 64)), ((64, 30), (64, 30)), ((900, 1), (64, 1))],
)
def test_a_picture_is_reduced_to_its_longer_side_and_never_enlarged(
    kind: str, size: tuple[int, int], reduced: tuple[int, int], output_format: OutputFormat, media_type: MediaType
) -> None:
    data = saved(Image.linear_gradient("L").resize(size).convert("RGB"), kind)

    assert inspect(transcode(data, output_format, max_side=64)) == ImageInfo(media_type, *reduced)


def test_a_reduced_picture_keeps_its_transparency_or_is_laid_on_white() -> None:
    """Averaged with its alpha, so that what is clear lends no colour to its surroundings."""
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (100, 0, 200, 200))
    data = saved(image, "PNG")
    reduced = opened(transcode(data, "png", max_side=64)).convert("RGBA")
    flat = opened(transcode(data, "png", opaque=True, max_side=64)).convert("RGB")

    assert reduced.getpixel((4, 4)) == (0, 0, 0, 0) and reduced.getpixel((60, 4)) == (255, 255, 255, 255)
    assert flat.getextrema() == ((255, 255),) * 3


def test_a_picture_too_long_for_webp() -> None:
    """WebP ends at 16,383 pixels a side; the error names the formats to use instead."""
    with pytest.raises(ApiError) as caught:
        transcode(saved(Image.new("RGB", (1, 20_000)), "PNG"), "webp")

    assert (caught.value.code, caught.value.param) == ("invalid_value", "output_format")
    assert "16,383" in caught.value.message and "png" in caught.value.message
    with pytest.raises(ApiError, match=r"^format: webp ends") as named:
        transcode(saved(Image.new("RGB", (1, 20_000)), "PNG"), "webp", param="format")
    assert named.value.param == "format"


@given(data=st.binary(max_size=80), media_type=st.sampled_from(["image/png", "image/jpeg"]))
def test_a_data_url_reads_back(data: bytes, media_type: str) -> None:
    """With its head, and as bare base64."""
    url = data_url(data, media_type)

    assert url == f"data:{media_type};base64,{to_base64(data)}"

    assert from_base64(url) == data
    assert from_base64(url.partition(",")[2]) == data


@pytest.mark.parametrize(
    "text", ["AAECAwQF", "AAEC\nAwQF\n", "AAEC\r\nAwQF", " A A\tECAwQF ", "data:image/png;base64,AAEC\nAwQF"]
)
def test_base64_may_be_in_lines(text: str) -> None:
    """As `base64` writes it."""
    assert from_base64(text) == bytes(range(6))


def test_a_stored_picture_has_no_bounds() -> None:
    """The limits were checked on arrival: it is encoded again with any number of pixels and bytes."""
    small = transcode(saved(Image.new("1", (8000, 6300)), "PNG"), "jpeg")

    assert inspect(small, limits=UNLIMITED) == ImageInfo("image/jpeg", 8000, 6300)


@pytest.mark.parametrize(
    "text", ["$$$", "AAA", "AA=A", "é", "AAAA\vAAAA", "AAAA\u2003AAAA", "data:image/png,AAAA", "data:image/png;base64,A", "\x00"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    """By its name, for every fault."""
    with pytest.raises(ApiError) as caught:
        from_base64(text, param="mask")

    assert (caught.value.code, caught.value.param) == ("invalid_image", "mask")
    assert "base64" in caught.value.message


@given(text=st.text(max_size=40))
def test_reading_base64_raises_only_our_error(text: str) -> None:
    """Any text is bytes or an `ApiError`."""
    try:
        data: bytes | None = from_base64(text)
    except ApiError as exc:
        data, code = None, exc.code
    assert isinstance(data, bytes) or code == "invalid_image"


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    """Known answer."""
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_encoding_leaves_no_metadata() -> None:
    """Where a picture was taken does not come out again, in any format."""
    data = saved(scene(), "PNG", exif=pic.exif(3, gps=True), dpi=(72, 72))
    assert b"SECRET" in data.upper()

    for output_format, _ in KINDS:
        assert b"SECRET" not in encode(decode(data), output_format).upper()
