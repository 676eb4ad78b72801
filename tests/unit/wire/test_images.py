"""Pictures as untrusted bytes: the right pixels, or an error that names the field and the fix."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from services.wire.errors import ApiError
from services.wire.images import (
    ImageInfo,
    ImageLimits,
    MediaType,
    OutputFormat,
    accept,
    data_url,
    decode,
    digest,
    encode,
    from_base64,
    inspect,
    is_complete,
    sniff,
    transcode,
)
from tests.unit.wire import pictures as pic
from tests.unit.wire.pictures import HEIGHT, WIDTH, opened, pixels, saved, scene

# What Pillow warns of in broken files is not this module's business.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PLAIN: dict[str, bytes] = {
    "grey png": saved(scene("L"), "PNG"),
    "rgb png": saved(scene(), "PNG"),
    "rgba png": saved(scene("RGBA"), "PNG"),
    "png with a density": saved(scene(), "PNG", dpi=(300, 300)),
    "interlaced png": pic.png((2, 1), 8, 2, b"\0\1\2\3" + b"\0\4\5\6", interlace=1),
    "grey jpeg": saved(scene("L"), "JPEG"),
    "rgb jpeg": saved(scene(), "JPEG"),
    "progressive jpeg": saved(scene(), "JPEG", progressive=True),
    "jpeg with a density": saved(scene(), "JPEG", dpi=(300, 300)),
    "rgb webp": saved(scene(), "WEBP"),
    "lossless webp": saved(scene(), "WEBP", lossless=True),
    "rgba webp": saved(scene("RGBA"), "WEBP", lossless=True),
}


def _with_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Location", "SECRET 48.2,16.3")
    return info


def _mpo() -> bytes:
    return saved(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT), "red")])


OTHER: dict[str, tuple[bytes, str]] = {
    "grey and alpha png": (saved(scene("LA"), "PNG"), "RGBA"),
    "palette png": (saved(scene().quantize(16), "PNG"), "RGB"),
    "palette png with one clear colour": (saved(scene().quantize(16), "PNG", transparency=0), "RGBA"),
    "palette png with an alpha table": (saved(scene().quantize(4), "PNG", transparency=b"\x00\x80\xff\xff"), "RGBA"),
    "rgb png with a clear colour": (saved(scene(), "PNG", transparency=(0, 0, 0)), "RGBA"),
    "1-bit png": (saved(scene("1"), "PNG"), "RGB"),
    "16-bit grey png": (pic.grey16([0, 1000, 65535]), "RGB"),
    "16-bit rgb png": (pic.rgb16([(0, 1000, 65535)]), "RGB"),
    "cmyk jpeg": (saved(scene("CMYK"), "JPEG"), "RGB"),
    "gps jpeg": (saved(scene(), "JPEG", exif=pic.exif(gps=True)), "RGB"),
    "gps png": (saved(scene(), "PNG", exif=pic.exif(gps=True)), "RGB"),
    "gps webp": (saved(scene(), "WEBP", exif=pic.exif(gps=True)), "RGB"),
    "gps behind the pixels": (
        pic.png((1, 1), 8, 2, b"\0\1\2\3", after=pic.chunk(b"eXIf", pic.exif(gps=True).removeprefix(b"Exif\0\0"))),
        "RGB",
    ),
    "png text": (saved(scene(), "PNG", pnginfo=_with_text()), "RGB"),
    "png text behind the pixels": (pic.png((1, 1), 8, 2, b"\0\1\2\3", after=pic.chunk(b"tEXt", b"Where\0SECRET")), "RGB"),
    "jpeg comment": (saved(scene(), "JPEG", comment=b"SECRET"), "RGB"),
    "jpeg with photoshop data": (
        b"\xff\xd8\xff\xed" + struct.pack(">H", 2 + 14 + 6) + b"Photoshop 3.0\0SECRET" + saved(scene(), "JPEG")[2:],
        "RGB",
    ),
    "jpeg with a maker's segment": (b"\xff\xd8\xff\xe4" + struct.pack(">H", 8) + b"SECRET" + saved(scene(), "JPEG")[2:], "RGB"),
    "xmp webp": (saved(scene(), "WEBP", xmp=b"<x:SECRET/>"), "RGB"),
    "profile png": (saved(scene(), "PNG", icc_profile=pic.srgb_profile()), "RGB"),
    "profile jpeg": (saved(scene(), "JPEG", icc_profile=pic.srgb_profile()), "RGB"),
    "lab profile on rgb": (saved(scene(), "PNG", icc_profile=pic.lab_profile()), "RGB"),
    "broken profile": (saved(scene(), "PNG", icc_profile=b"SECRET profile"), "RGB"),
    "broken exif in a jpeg": (saved(scene(), "JPEG", exif=b"Exif\0\0SECRET garbage"), "RGB"),
    "broken exif in a png": (saved(scene(), "PNG", exif=b"Exif\0\0SECRET garbage"), "RGB"),
    "a phone's jpeg of two pictures": (_mpo(), "RGB"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_bytes_pass_untouched(name: str) -> None:
    """What needs no change is not encoded again."""
    data = PLAIN[name]
    accepted, info = accept(data)

    assert accepted is data
    assert (info.width, info.height) == opened(data).size
    assert info.media_type == sniff(data)


@pytest.mark.parametrize("name", OTHER)
def test_everything_else_becomes_a_plain_png(name: str) -> None:
    """8-bit RGB or RGBA, without metadata, and accepted as it is the second time."""
    data, mode = OTHER[name]
    accepted, info = accept(data)
    result = opened(accepted)

    assert (info.media_type, sniff(accepted)) == ("image/png", "image/png")
    assert result.mode == mode
    assert (info.width, info.height) == result.size
    assert pixels(result) == pixels(decode(data))
    assert not set(result.info) - {"dpi"}
    assert b"SECRET" not in accepted.upper()
    assert accept(accepted)[0] is accepted


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_decoding_keeps_the_picture(name: str) -> None:
    """Mode, profile and packing change; what is seen does not."""
    data = PLAIN[name] if name in PLAIN else OTHER[name][0]
    decoded = decode(data)

    assert decoded.mode in {"RGB", "RGBA"} and decoded.info == {}
    if "16-bit" in name:
        return  # Pillow's own conversion of 16 bits clips; see below
    expected = opened(data).convert(decoded.mode)
    for ours, theirs in zip(pixels(decoded), pixels(expected), strict=True):
        assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 1


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    """Each 16-bit grey becomes the nearest of the 256, black and white exactly."""
    values = [0, 1, 128, 129, 256, 257, 385, 386, 32768, 40000, 65279, 65406, 65407, 65534, 65535]
    decoded = decode(pic.grey16(values))

    assert [pixel[0] for pixel in pixels(decoded)] == [round(value / 257) for value in values]
    assert pixels(decode(pic.rgb16([(0, 32896, 65535), (257, 514, 65278)]))) == [(0, 128, 255), (1, 2, 254)]


def test_sixteen_bits_with_a_clear_colour() -> None:
    """The grey that is named clear is clear, and no other."""
    data = pic.grey16([0, 300, 40000, 65535], before=pic.chunk(b"tRNS", struct.pack(">H", 40000)))

    assert [pixel[3] for pixel in pixels(decode(data))] == [255, 255, 0, 255]


def test_the_alpha_of_a_palette_is_kept() -> None:
    """A table of alphas, one a colour, ends in the alpha channel."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)

    assert pixels(decode(saved(image, "PNG", transparency=b"\x40\xff"))) == [(255, 0, 0, 64), (0, 0, 255, 255)]


def test_cmyk_is_not_inverted() -> None:
    """Magenta and yellow without cyan are red."""
    red, green, blue = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)).getpixel((4, 4))  # type: ignore[misc]

    assert red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_comes_out_upright(kind: str, orientation: int) -> None:
    """All eight EXIF orientations; the mark itself is gone, so nobody turns the picture twice."""
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("lime", (32, 0, 48, 16))
    upright.paste("blue", (0, 16, 16, 32))
    data = saved(
        pic.turned(upright, orientation), kind, exif=pic.exif(orientation), **({"lossless": True} if kind == "WEBP" else {})
    )
    accepted, info = accept(data)
    result = opened(accepted)

    assert (info.width, info.height) == result.size == (48, 32)
    assert 0x0112 not in result.getexif()
    for place in ((8, 8), (40, 8), (8, 24), (40, 24)):
        ours: Any = result.getpixel(place)
        theirs: Any = upright.getpixel(place)
        assert all(abs(a - b) < 40 for a, b in zip(ours, theirs, strict=True)), (place, ours, theirs)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (2, 2), (255, 0, 0)), (0, 255, 0)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 100)), (0, 255, 0, 100)),
        (Image.new("RGB", (2, 2), (255, 0, 0)).quantize(2), (0, 255, 0)),
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("LA", (2, 2), (77, 100)), (77, 77, 77, 100)),
    ],
    ids=["RGB", "RGBA", "P", "L", "LA"],
)
def test_colours_are_brought_to_srgb(image: Image.Image, expected: tuple[int, ...]) -> None:
    """A profile whose red is our green turns red into green, in every mode; a profile that does not fit is ignored."""
    pixel: Any = decode(saved(image, "PNG", icc_profile=pic.swapped_profile())).getpixel((0, 0))

    assert len(pixel) == len(expected)
    assert all(abs(a - b) <= 2 for a, b in zip(pixel, expected, strict=True)), pixel


def _refused(data: bytes, code: str = "invalid_image", **options: Any) -> str:
    for read in (inspect, accept, decode):
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
    """An empty part is told apart from a broken one."""
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
    began = time.process_time()

    assert "send a smaller one" in _refused(data, "image_too_large")
    assert time.process_time() - began < 0.5


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

    assert accept(data) == (data, ImageInfo("image/png", *size))


BIG = {kind: saved(scene(size=(64, 48)), kind) for kind in ("PNG", "JPEG", "WEBP")}


@pytest.mark.parametrize("kind", BIG)
@given(part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_a_cut_file_never_gives_a_half_picture(kind: str, part: float) -> None:
    """A truncated file is refused, unless every pixel is there: then it is passed on whole."""
    whole = BIG[kind]
    data = whole[: int(len(whole) * part)]
    try:
        accepted, _ = accept(data)
    except ApiError as exc:
        assert exc.code in {"invalid_image", "missing_parameter"}
    else:
        assert is_complete(accepted)
        assert pixels(opened(accepted)) == pixels(opened(whole))


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_png_without_its_end_is_not_passed_on_as_it_is(cut: int) -> None:
    """Pillow reads a PNG whose last chunk is missing; what we pass on has one."""
    accepted, _ = accept(BIG["PNG"])
    assert accepted is BIG["PNG"]
    try:
        accepted, _ = accept(BIG["PNG"][:-cut])
    except ApiError as exc:
        assert exc.code == "invalid_image"
    else:
        assert is_complete(accepted)


EVERYTHING = [*PLAIN.values(), *(data for data, _ in OTHER.values()), *BIG.values(), pic.thumbnailed()]


@given(
    data=st.sampled_from(EVERYTHING), flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=4)
)
@settings(max_examples=200, deadline=None)
def test_flipped_bits_give_a_picture_or_our_error(data: bytes, flips: list[tuple[float, int]]) -> None:
    """Whatever a broken disk makes of a file: an `ApiError`, or a picture that decodes again."""
    broken = bytearray(data)
    for place, bit in flips:
        broken[int(place * len(broken))] ^= 1 << bit
    try:
        accepted, info = accept(bytes(broken))
    except ApiError as exc:
        assert exc.code in {"invalid_image", "image_too_large"}
    else:
        assert decode(accepted).size == (info.width, info.height)


@given(tail=st.binary(max_size=64), head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBPVP8 "]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_picture_or_our_error(head: bytes, tail: bytes) -> None:
    """No bytes make us raise anything else, nor look whole by chance and then fail to open."""
    is_complete(head + tail)
    with pytest.raises(ApiError):
        accept(head + tail)


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_a_whole_file_is_complete(name: str) -> None:
    """Whatever Pillow writes."""
    assert is_complete(PLAIN[name] if name in PLAIN else OTHER[name][0])


@pytest.mark.parametrize("name", ["rgb png", "rgba png", "rgb jpeg", "progressive jpeg", "grey jpeg", "rgb webp", "rgba webp"])
def test_no_prefix_is_complete(name: str) -> None:
    """A connection that breaks at any byte is noticed."""
    data = PLAIN[name]

    assert [end for end in range(len(data)) if is_complete(data[:end])] == []


def test_a_thumbnail_does_not_end_a_jpeg() -> None:
    """A camera's JPEG cut behind the small JPEG inside its EXIF block is not whole."""
    data = pic.thumbnailed()

    assert is_complete(data)
    assert [end for end in range(len(data)) if is_complete(data[:end])] == []


def test_what_follows_a_jpeg_does_not_matter() -> None:
    """Phones append data behind the end marker, servers a line end."""
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


def test_a_picture_too_long_for_webp() -> None:
    """WebP ends at 16,383 pixels a side: the caller is told, and what to ask for instead."""
    with pytest.raises(ApiError) as caught:
        transcode(saved(Image.new("RGB", (1, 20_000)), "PNG"), "webp")

    assert (caught.value.code, caught.value.param) == ("invalid_value", "output_format")
    assert "16,383" in caught.value.message and "png" in caught.value.message


@given(data=st.binary(max_size=80), media_type=st.sampled_from(["image/png", "image/jpeg"]))
def test_a_data_url_reads_back(data: bytes, media_type: str) -> None:
    """With its head, and as bare base64."""
    url = data_url(data, media_type)

    assert from_base64(url) == data
    assert from_base64(url.partition(",")[2]) == data


@pytest.mark.parametrize(
    "text", ["$$$", "AAA", "AA=A", "é", "AAAA\nAAAA", "data:image/png,AAAA", "data:image/png;base64,A", "\x00"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    """By name, whatever is wrong with it."""
    with pytest.raises(ApiError) as caught:
        from_base64(text, param="mask")

    assert (caught.value.code, caught.value.param) == ("invalid_image", "mask")
    assert "base64" in caught.value.message


@given(text=st.text(max_size=40))
def test_reading_base64_raises_only_our_error(text: str) -> None:
    """Any text is bytes or an `ApiError`."""
    try:
        assert isinstance(from_base64(text), bytes)
    except ApiError as exc:
        assert exc.code == "invalid_image"


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    """Known answer."""
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_encoding_leaves_no_metadata() -> None:
    """An image that still carries some in memory is written without."""
    image = Image.open(io.BytesIO(saved(scene(), "PNG", pnginfo=_with_text(), exif=pic.exif(3, gps=True), dpi=(72, 72))))
    for output_format, _ in KINDS:
        assert b"SECRET" not in encode(decode(saved(image, "PNG", exif=pic.exif(gps=True))), output_format).upper()
