"""Masks: which fit a picture, what the thinker is shown, and what counts as changed outside."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.errors import ApiError
from services.imaging import masks
from services.imaging.masks import MARGIN, THRESHOLD, TILE, Outside, outside, overlay

PHOTOS = sorted((Path(__file__).parents[3] / "examples" / "photos").glob("*.jpg"))
CLEAR, OPAQUE = (0, 0, 0, 0), (0, 0, 0, 255)


def masked(size: tuple[int, int], box: tuple[int, int, int, int], alpha: int = 0) -> Image.Image:
    """A mask that is transparent in the box (left, top, right, bottom; the last two excluded)."""
    mask = Image.new("RGBA", size, OPAQUE)
    mask.paste((0, 0, 0, alpha), box)
    return mask


def again(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Image.Image, Image.Image]:
    """A picture of coarse colours, and a mask with a box in it."""
    width, height = draw(st.integers(24, 140)), draw(st.integers(24, 140))
    coarse = Image.frombytes("RGB", (3, 3), draw(st.binary(min_size=27, max_size=27)))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return image, masked((width, height), (left, top, right, bottom), draw(st.integers(0, 254)))


@given(scenes())
@settings(max_examples=40, deadline=None)
def test_an_unchanged_picture_has_not_changed(scene: tuple[Image.Image, Image.Image]) -> None:
    image, mask = scene
    assert outside(image, mask, image) in {None, Outside(0.0, 0.0)}


@given(scenes(), st.binary(min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_what_changes_in_the_opening_does_not_count(scene: tuple[Image.Image, Image.Image], colour: bytes) -> None:
    """However soft the mask is there."""
    image, mask = scene
    edited = image.copy()
    edited.paste(tuple(colour), mask=masks.opening(mask))
    assert outside(image, mask, edited) in {None, Outside(0.0, 0.0)}


@given(scenes(), st.sampled_from([("JPEG", 75), ("JPEG", 90), ("WEBP", 80)]))
@settings(max_examples=40, deadline=None)
def test_compression_is_no_change(scene: tuple[Image.Image, Image.Image], how: tuple[str, int]) -> None:
    image, mask = scene
    found = outside(image, mask, again(image, how[0], quality=how[1]))
    assert found is None or found.changed == 0


@given(scenes(), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_shares_and_differences_are_within_their_range(scene: tuple[Image.Image, Image.Image], level: int) -> None:
    image, mask = scene
    edited = ImageChops.add(image, Image.new("RGB", image.size, (level, level, level)))
    found = outside(image, mask, edited)
    assume(found is not None)
    assert found is not None
    assert 0 <= found.changed <= 1 and 0 <= found.difference <= level + 0.5


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_change_counts_above_the_threshold(level: int, more: int) -> None:
    """A larger change is never a smaller share, and of an even one the difference is its level."""
    image, mask = Image.new("RGB", (96, 80), (100, 90, 80)), masked((96, 80), (0, 0, 20, 20))
    one, other = (outside(image, mask, Image.new("RGB", image.size, (100 + by, 90, 80))) for by in (level, level + more))
    assert one is not None and other is not None
    assert (one.changed > 0.9) is (level > THRESHOLD)
    assert other.changed >= one.changed and other.difference >= one.difference
    assert one.difference == pytest.approx(level / 3, rel=0.05, abs=0.02)


def test_the_share_is_that_of_the_outside() -> None:
    """The left half may change; of the right half a half did."""
    image, mask = Image.new("RGB", (320, 160), "grey"), masked((320, 160), (0, 0, 160, 160))
    edited = image.copy()
    edited.paste("red", (160, 0, 320, 80))
    found = outside(image, mask, edited)
    assert found is not None
    assert found.changed == pytest.approx(0.5, abs=0.02)


def test_a_small_thing_that_appears_outside_counts() -> None:
    image, mask = Image.new("RGB", (320, 160), "grey"), masked((320, 160), (0, 0, 100, 100))
    edited = image.copy()
    ImageDraw.Draw(edited).ellipse((200, 50, 212, 62), fill="white")
    found = outside(image, mask, edited)
    assert found is not None and 0 < found.changed < 0.02


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_photographs_that_were_encoded_or_scaled_again_have_not_changed(photo: Path) -> None:
    """Although what may change was replaced by the hardest noise there is, up to its edge."""
    image = Image.open(photo).convert("RGB")
    image.thumbnail((900, 900))
    width, height = image.size
    mask = Image.new("RGBA", image.size, OPAQUE)
    ImageDraw.Draw(mask).ellipse((width // 4 + 3, height // 4 + 5, width // 2, height // 2), fill=CLEAR)
    noise = ImageChops.multiply(Image.effect_noise(image.size, 200).convert("RGB"), Image.new("RGB", image.size, (255, 30, 90)))
    edited = image.copy()
    edited.paste(noise, mask=masks.opening(mask))
    smaller = edited.resize((width // 16 * 16, height // 16 * 16 - 16), Image.Resampling.LANCZOS)
    ways = {
        "jpeg 95": again(edited, "JPEG", quality=95),
        "jpeg 75": again(edited, "JPEG", quality=75, subsampling=2),
        "jpeg 50": again(edited, "JPEG", quality=50, subsampling=2),
        "webp 60": again(edited, "WEBP", quality=60),
        "scaled": smaller,
        "scaled jpeg": again(smaller, "JPEG", quality=75),
    }
    found = {name: outside(image, mask, way) for name, way in ways.items()}
    assert {name: each.changed for name, each in found.items() if each} == dict.fromkeys(ways, 0.0)
    assert all(each is not None and each.difference < 2 for each in found.values())
    # The same measure sees a change that is easy to overlook.
    warmer = outside(image, mask, ImageChops.add(image, Image.new("RGB", image.size, (20, 8, 0))))
    moved = outside(image, mask, ImageChops.offset(image, 12, 0))
    assert warmer is not None and warmer.changed > 0.8
    assert moved is not None and moved.changed > 0.2


def test_transparency_that_an_editor_drops_is_no_change() -> None:
    image = Image.new("RGBA", (64, 64), (200, 10, 10, 255))
    image.paste((0, 0, 0, 0), (40, 0, 64, 64))
    flat = Image.new("RGB", (64, 64), "white")
    flat.paste((200, 10, 10), (0, 0, 40, 64))
    assert outside(image, masked((64, 64), (0, 0, 8, 8)), flat) == Outside(0.0, 0.0)


def test_without_an_outside_there_is_nothing_to_measure() -> None:
    image = Image.new("RGB", (64, 64), "grey")
    for mask in (Image.new("RGBA", (64, 64), CLEAR), masked((64, 64), (MARGIN, MARGIN, 64 - MARGIN, 64 - MARGIN))):
        assert outside(image, mask, Image.new("RGB", (64, 64), "red")) is None


def test_a_mask_of_an_earlier_version_without_transparency_leaves_nothing_outside() -> None:
    source = Image.new("RGB", (64, 64), "red")

    assert outside(source, Image.new("L", (64, 64)), Image.new("RGB", (64, 64), "blue")) is None
    assert overlay(source, Image.new("RGB", (64, 64))).getpixel((5, 5)) == (255, 0, 0)


@given(scenes())
@settings(max_examples=40, deadline=None)
def test_the_picture_of_what_may_change_shows_it_as_it_is_and_the_rest_grey_and_pale(
    scene: tuple[Image.Image, Image.Image],
) -> None:
    image, mask = scene
    shown, free = overlay(image, mask), masks.opening(mask)
    assert (shown.size, shown.mode) == (image.size, "RGB")
    black = Image.new("RGB", image.size)
    assert (
        not ImageChops.difference(shown, image).getbbox()
        or not Image.composite(ImageChops.difference(shown, image), black, free).getbbox()
    )
    rest = Image.composite(black, shown, free)
    red, green, blue = rest.split()
    assert ImageChops.difference(red, green).getextrema()[1] == ImageChops.difference(green, blue).getextrema()[1] == 0
    darkest = Image.composite(Image.new("L", image.size, 255), shown.convert("L"), free).getextrema()[0]
    assert darkest >= 177  # type: ignore[operator]  # of one band


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("RGBA", (5, 4), CLEAR), "mask is 5x4, the image 6x4; send both in one size"),
        (Image.new("RGB", (6, 4)), "mask has no transparency; send a PNG in which the pixels to edit are transparent"),
        (Image.new("RGBA", (6, 4), OPAQUE), "mask is opaque everywhere, so that nothing may change"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_the_fix(mask: Image.Image, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        masks.check(mask, (6, 4))
    assert (caught.value.code, caught.value.status, caught.value.param) == ("invalid_image", 400, "mask")
    masks.check(masked((6, 4), (5, 3, 6, 4), 254), (6, 4))


def test_the_margin_covers_what_a_tile_of_a_jpeg_can_carry_over_the_edge() -> None:
    """Eight pixels: a block's ringing ends with the block."""
    assert MARGIN >= TILE
    image, mask = Image.new("RGB", (64, 64), "grey"), masked((64, 64), (0, 0, 20, 64))
    blurred = image.copy()
    blurred.paste("white", (0, 0, 20, 64))
    assert outside(image, mask, blurred.filter(ImageFilter.BoxBlur(4))) == Outside(0.0, 0.0)
