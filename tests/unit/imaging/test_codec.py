"""Pictures as untrusted bytes: the right pixels, or an error that names the field and the fix."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image

from services.errors import ApiError
from services.imaging.codec import ImageLimits, check_image, decode, open_image, sniff
from tests.unit.imaging import pictures as pic
from tests.unit.imaging.pictures import EVERYTHING, OTHER, PLAIN, STRIPPED, opened, pixels, saved

# What Pillow warns of in broken files is not this module's business.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", PLAIN)
def test_plain_bytes_pass_untouched(name: str) -> None:
    """What needs no change is not encoded again."""
    data = PLAIN[name]
    info = check_image(open_image(data))
    accepted = info.data

    assert accepted is data
    assert (info.width, info.height) == opened(data).size
    assert info.media_type == sniff(data)


@pytest.mark.parametrize("name", OTHER)
def test_everything_else_becomes_a_plain_png(name: str) -> None:
    """8-bit RGB or RGBA, without metadata, and accepted as it is the second time."""
    data, mode = OTHER[name]
    info = check_image(open_image(data))
    accepted = info.data
    result = opened(accepted)

    assert (info.media_type, sniff(accepted)) == ("image/png", "image/png")
    assert result.mode == mode
    assert (info.width, info.height) == result.size
    assert pixels(result) == pixels(decode(data))
    assert not set(result.info) - {"dpi"}
    assert b"SECRET" not in accepted.upper()
    assert check_image(open_image(accepted)).data is accepted


@pytest.mark.parametrize("name", STRIPPED)
def test_data_other_than_the_picture_is_removed(name: str) -> None:
    """And the picture stays as it was encoded."""
    data = STRIPPED[name]
    info = check_image(open_image(data))
    accepted = info.data

    assert info.media_type == sniff(accepted) == sniff(data)
    assert (info.width, info.height) == opened(accepted).size
    assert pixels(opened(accepted)) == pixels(opened(data))
    assert not set(opened(accepted).info) & {"exif", "xmp", "comment", "photoshop"}
    assert b"SECRET" not in accepted.upper()
    assert check_image(open_image(accepted)).data is accepted


def test_a_photograph_is_not_made_larger_than_it_may_be() -> None:
    """An upright JPEG with EXIF keeps its bytes; a turned one is a JPEG again where it were too large as a PNG."""
    noise = Image.effect_noise((160, 120), 90).convert("RGB")
    for orientation in (1, 6):
        data = saved(noise, "JPEG", quality=90, exif=pic.exif(orientation, gps=True))
        limits = ImageLimits(max_bytes=len(data) * 3 // 2)
        assert len(saved(noise, "PNG")) > limits.max_bytes
        info = check_image(open_image(data, limits=limits))
        accepted = info.data

        assert (info.media_type, sniff(accepted)) == ("image/jpeg", "image/jpeg")
        assert len(accepted) <= limits.max_bytes and b"SECRET" not in accepted.upper()
        assert opened(accepted).size == (info.width, info.height) == ((160, 120) if orientation == 1 else (120, 160))


def test_what_becomes_too_large_is_refused_at_once() -> None:
    """Otherwise the editor would refuse it later, and the session would fail."""
    data = saved(Image.effect_noise((160, 120), 90).quantize(64), "PNG")

    with pytest.raises(ApiError) as caught:
        check_image(open_image(data, limits=ImageLimits(max_bytes=len(data)), param="mask"))
    assert (caught.value.code, caught.value.param) == ("image_too_large", "mask")
    assert "encoded again" in caught.value.message and f"{len(data):,}" in caught.value.message


@pytest.mark.parametrize("name", EVERYTHING)
def test_decoding_keeps_the_picture(name: str) -> None:
    """Mode, profile and packing change; what is seen does not."""
    data = EVERYTHING[name]
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
    """All eight EXIF orientations; the tag itself is removed, so that no reader rotates the picture twice."""
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("lime", (32, 0, 48, 16))
    upright.paste("blue", (0, 16, 16, 32))
    data = saved(
        pic.turned(upright, orientation), kind, exif=pic.exif(orientation), **({"lossless": True} if kind == "WEBP" else {})
    )
    info = check_image(open_image(data))
    accepted = info.data
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
@pytest.mark.parametrize("profile", [pic.swapped_profile(), pic.with_elements(pic.swapped_profile())], ids=["", "with elements"])
def test_colours_are_brought_to_srgb(image: Image.Image, expected: tuple[int, ...], profile: bytes) -> None:
    """A profile whose red is our green turns red into green, in every mode; a profile that does not fit is ignored, and so are
    processing elements: a file of 400 bytes can have 100,000, for each pixel to pass.
    """
    pixel: Any = decode(saved(image, "PNG", icc_profile=profile)).getpixel((0, 0))

    assert len(pixel) == len(expected)
    assert all(abs(a - b) <= 2 for a, b in zip(pixel, expected, strict=True)), pixel
