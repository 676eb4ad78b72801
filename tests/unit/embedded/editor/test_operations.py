"""Each operation's effect on the pixels of a real photograph, measured in CIELAB."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from services.embedded.editor.colour_names import COLOURS, Colour
from services.embedded.editor.masks import Masks
from services.embedded.editor.plan import Area, Region, Term
from tests.unit.embedded.editor.photographs import chroma, detail, edit, lab, landscape, lightness, photo, report


def _mean(image: Image.Image) -> np.ndarray:
    return np.asarray(lab(image).reshape(-1, 3).mean(axis=0))


@pytest.mark.parametrize(
    ("up", "down", "least"),
    [
        ("increase the exposure by 30%", "decrease the exposure by 30%", 4),
        ("raise the midtones by 30%", "lower the midtones by 30%", 4),
        ("lift the shadows by 30%", "deepen the shadows by 30%", 1.5),
        ("raise the highlights by 60%", "reduce the highlights by 60%", 1.5),
        ("lift the blacks by 30%", "deepen the blacks by 30%", 1.5),
        ("raise the whites by 60%", "reduce the whites by 60%", 1.5),
    ],
)
def test_tone_moves_lightness(up: str, down: str, least: float) -> None:
    before = lightness(photo()).mean()
    assert lightness(edit(up)).mean() > before + least / 2
    assert lightness(edit(down)).mean() < before - least / 2


def test_exposure_spares_white_and_keeps_hue() -> None:
    brighter = edit("increase the exposure by 30%")
    assert lightness(brighter).max() <= 100.01
    before, after = lab(photo()), lab(brighter)
    vivid = (np.hypot(before[..., 1], before[..., 2]) > 30) & (before[..., 0] < 60)
    hues = [np.degrees(np.arctan2(picture[..., 2], picture[..., 1]))[vivid] for picture in (before, after)]
    assert np.median(np.abs(hues[1] - hues[0])) < 4


def test_contrast_widens_and_narrows_the_range_about_the_same_middle() -> None:
    before = lightness(photo())
    more, less = lightness(edit("increase the contrast by 30%")), lightness(edit("decrease the contrast by 30%"))
    assert more.std() > 1.08 * before.std()
    assert less.std() < 0.92 * before.std()
    assert abs(more.mean() - before.mean()) < 3


def test_lifted_blacks_fade_black_and_lifted_shadows_keep_it() -> None:
    darkest = np.percentile(lightness(photo()), 1)
    assert np.percentile(lightness(edit("lift the blacks by 40%")), 1) > darkest + 6
    assert np.percentile(lightness(edit("lift the shadows by 40%")), 1) < darkest + 6


def test_reducing_highlights_acts_on_bright_parts() -> None:
    before, after = lightness(photo()), lightness(edit("reduce the highlights by 60%"))
    bright, dark = before > 75, before < 35
    assert (after - before)[bright].mean() < -6
    assert abs((after - before)[dark].mean()) < 2


def test_matte_lifts_black_and_holds_white_back() -> None:
    before, after = lightness(photo()), lightness(edit("add a matte look of 50%"))
    assert np.percentile(after, 2) > np.percentile(before, 2) + 4
    assert np.percentile(after, 99.5) < np.percentile(before, 99.5) - 1


@pytest.mark.parametrize(
    ("prompt", "channel", "sign"),
    [
        ("increase the warmth by 30%", 2, 1),
        ("make it cooler by 30%", 2, -1),
        ("shift the tint towards magenta by 30%", 1, 1),
        ("shift the tint towards green by 30%", 1, -1),
    ],
)
def test_white_balance_moves_grey_along_its_axis_and_keeps_lightness(prompt: str, channel: int, sign: int) -> None:
    before, after = _mean(photo("chelsea")), _mean(edit(prompt, photo("chelsea")))
    assert sign * (after - before)[channel] > 3.5
    assert abs(after[0] - before[0]) < 1.5


def test_saturation_and_vibrance_scale_chroma() -> None:
    cat = photo("chelsea")
    before = chroma(cat).mean()
    assert chroma(edit("increase the saturation by 30%", cat)).mean() > 1.2 * before
    assert chroma(edit("decrease the saturation by 30%", cat)).mean() < 0.85 * before
    assert chroma(edit("desaturate completely", cat)).mean() < 0.6
    assert chroma(edit("increase the vibrance by 50%", cat)).mean() > 1.15 * before


def test_vibrance_acts_on_quiet_colours_more_than_on_vivid_ones() -> None:
    before, after = chroma(photo("astronaut")), chroma(edit("increase the vibrance by 60%", photo("astronaut")))
    quiet, vivid = (before > 5) & (before < 15), before > 60
    assert (after[quiet] / before[quiet]).mean() > (after[vivid] / before[vivid]).mean() + 0.1


def test_hue_shift_turns_hues_and_keeps_chroma() -> None:
    cat = photo("chelsea")
    before, after = lab(cat), lab(edit("shift the hue by 60 degrees", cat))
    coloured = np.hypot(before[..., 1], before[..., 2]) > 12
    turn = np.degrees(np.arctan2(after[..., 2], after[..., 1]) - np.arctan2(before[..., 2], before[..., 1])) % 360
    assert 40 < np.median(turn[coloured]) < 85
    assert abs(lightness(edit("shift the hue by 60 degrees", cat)).mean() - lightness(cat).mean()) < 1


def test_black_and_white_keeps_no_colour_and_all_lightness() -> None:
    grey = edit("make it black and white")
    assert chroma(grey).max() < 1.5
    assert np.abs(lightness(grey) - lightness(photo())).mean() < 0.5


def test_sepia_is_brown() -> None:
    values = _mean(edit("make it sepia"))
    assert 3 < values[1] < 16 and 10 < values[2] < 35
    assert np.abs(lightness(edit("make it sepia")) - lightness(photo())).mean() < 1


def test_overlay_draws_colours_towards_its_own() -> None:
    before, after = _mean(photo("chelsea")), _mean(edit("add a teal tint of 40%", photo("chelsea")))
    assert after[1] < before[1] - 5 and after[2] < before[2] - 3


def test_split_toning_colours_only_its_tones() -> None:
    before, after = lab(photo("chelsea")), lab(edit("tint the shadows teal by 50%", photo("chelsea")))
    dark, light = before[..., 0] < 30, before[..., 0] > 65
    assert (after - before)[dark].mean(axis=0)[1] < -3
    assert np.abs((after - before)[light]).mean() < 0.7


def test_invert_is_the_negative() -> None:
    assert np.array_equal(np.asarray(edit("invert the colours")), 255 - np.asarray(photo()))


def test_vignette_darkens_corners_and_not_the_centre() -> None:
    change = lightness(edit("add a vignette of 40%")) - lightness(photo())
    height, width = change.shape
    assert change[:12, :12].mean() < -2 and change[-12:, -12:].mean() < -3
    assert abs(change[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8].mean()) < 0.7


def test_reducing_the_vignette_brightens_corners_and_a_white_one_whitens_them() -> None:
    before = lightness(photo())[-16:, -16:].mean()
    assert lightness(edit("reduce the vignette by 40%"))[-16:, -16:].mean() > before + 2
    white = lab(edit("add a white vignette of 80%"))[-8:, -8:].reshape(-1, 3).mean(axis=0)
    assert white[0] > before + 10


def test_grain_adds_lightness_noise_and_no_colour_noise() -> None:
    grainy = edit("add film grain of 30%", photo("chelsea"))
    change = lab(grainy) - lab(photo("chelsea"))
    assert 1.5 < change[..., 0].std() < 8
    assert change[..., 1].std() < 1
    assert abs(change[..., 0].mean()) < 0.6


def test_blur_and_sharpen_take_away_and_add_detail() -> None:
    before = detail(photo())
    assert detail(edit("blur the image by 30%")) < 0.75 * before
    assert detail(edit("sharpen the image by 40%")) > 1.15 * before


def test_clarity_raises_local_contrast_without_moving_the_mean() -> None:
    before, after = photo("chelsea"), edit("increase the clarity by 40%", photo("chelsea"))
    assert detail(after) > 1.1 * detail(before)
    assert abs(lightness(after).mean() - lightness(before).mean()) < 1
    assert detail(edit("decrease the clarity by 40%", photo("chelsea"))) < 0.95 * detail(before)


def test_haze_lowers_contrast_and_dehaze_brings_it_back() -> None:
    hazy = edit("add haze of 40%")
    assert lightness(hazy).std() < 0.8 * lightness(photo()).std()
    assert np.percentile(lightness(hazy), 1) > np.percentile(lightness(photo()), 1) + 8
    cleared = edit("reduce the haze by 60%", hazy)
    assert lightness(cleared).std() > 1.1 * lightness(hazy).std()
    assert chroma(cleared).mean() > 1.1 * chroma(hazy).mean()


def test_glow_brightens_and_softens() -> None:
    glowing = edit("add a soft glow of 40%")
    assert lightness(glowing).mean() > lightness(photo()).mean() + 1.5
    assert (lightness(glowing) - lightness(photo())).min() > -1.5


def test_denoise_removes_noise_and_keeps_edges() -> None:
    noisy = edit("add film grain of 40%")
    calm = edit("reduce the noise by 60%", noisy)
    assert detail(calm) < 0.7 * detail(noisy)
    assert np.abs(lightness(calm) - lightness(photo())).mean() < np.abs(lightness(noisy) - lightness(photo())).mean()


def test_light_leak_adds_warm_light_from_one_side() -> None:
    change = lab(edit("add a light leak of 50%")) - lab(photo())
    assert change[..., 0].min() > -2
    thirds = [part.mean() for part in (change[:80, :, 0], change[-80:, :, 0], change[:, :80, 0], change[:, -80:, 0])]
    assert max(thirds) > min(thirds) + 3


@pytest.mark.parametrize(("side", "near", "far"), [("top", np.s_[:30], np.s_[-30:]), ("left", np.s_[:, :40], np.s_[:, -40:])])
def test_graduated_light_acts_on_its_side(side: str, near: slice, far: slice) -> None:
    change = lightness(edit(f"darken the {side} by 40%")) - lightness(photo())
    assert change[near].mean() < -3
    assert abs(change[far].mean()) < 0.3


def test_selective_colour_keeps_one_hue() -> None:
    before, after = photo("astronaut"), edit("make everything black and white except the orange", photo("astronaut"))
    assert chroma(after).mean() < 0.85 * chroma(before).mean()
    suit = chroma(before) > 75
    assert chroma(after)[suit].mean() > 0.7 * chroma(before)[suit].mean()


def test_keep_only_the_subject_in_colour() -> None:
    after = chroma(edit("keep only the subject in colour", photo("astronaut")))
    assert after[:, :15].mean() < 4 < after[120:200, 60:140].mean()


def test_recolour_changes_hue_inside_and_nothing_far_outside() -> None:
    before, after = lab(photo()), lab(edit("change the colour of the cup to blue"))
    height, width = before.shape[:2]
    saucer = after[int(0.75 * height) : int(0.85 * height), int(0.35 * width) : int(0.5 * width)].reshape(-1, 3).mean(axis=0)
    assert saucer[2] < -20
    assert np.abs(after - before)[:8, :8].max() < 2


def test_a_hue_can_be_recoloured() -> None:
    after = _mean(edit("make the oranges green", photo("astronaut")))
    assert after[1] < _mean(photo("astronaut"))[1] - 3


def test_sky_is_found_recoloured_and_reported_when_missing() -> None:
    before, after = lab(landscape()), lab(edit("turn the sky red", landscape()))
    assert after[:40, :, 1].mean() > before[:40, :, 1].mean() + 20
    assert np.abs(after - before)[75:].mean() < 1
    assert report("turn the sky purple", photo("coffee", 200))[1] == ("recolour: no sky found in the picture",)


def test_background_blur_keeps_the_subject_sharp() -> None:
    cup = photo()
    change = np.abs(lightness(edit("blur the background by 60%", cup)) - lightness(cup))
    assert change[60:110, 90:140].mean() < 0.5 < change[:20].mean() + change[:, -20:].mean()


def test_background_is_replaced_by_a_colour_or_a_gradient() -> None:
    white = np.asarray(edit("replace the background with white"))
    assert (white[:10, -10:] >= 250).all() and white[80:110, 95:125].mean() < 230
    gradient = lab(edit("replace the background with a gradient from navy to orange"))
    assert gradient[:6, :6, 2].mean() < -20 < 20 < gradient[-6:, -6:, 2].mean()


@pytest.mark.parametrize(("prompt", "channel"), [("desaturate the background by 80%", 1), ("darken the background by 40%", 0)])
def test_background_is_changed_alone(prompt: str, channel: int) -> None:
    change = lab(edit(prompt)) - lab(photo())
    assert change[:15, -15:, channel].mean() < -2
    assert np.abs(change[70:105, 95:125]).mean() < 0.7


def test_posterize_leaves_few_tones() -> None:
    assert len(np.unique(np.rint(lightness(edit("posterize to 4 levels, black and white"))))) <= 8


def test_pixelate_makes_blocks() -> None:
    pixels = np.asarray(edit("pixelate with 10 pixel blocks"), dtype=int)
    assert np.abs(pixels[0:10, 0:10] - pixels[5, 5]).max() <= 2
    assert np.abs(pixels.reshape(16, 10, 24, 10, 3).std(axis=(1, 3))).max() < 2


def test_sketch_is_lines_on_paper() -> None:
    drawn = edit("turn it into a pencil sketch")
    assert np.median(lightness(drawn)) > 85 and lightness(drawn).min() < 40 and chroma(drawn).max() < 2


def test_emboss_is_grey_relief() -> None:
    relief = edit("emboss the image by 100%")
    assert 45 < lightness(relief).mean() < 65
    assert chroma(relief).mean() < 0.3 * chroma(photo()).mean()


def test_crops() -> None:
    assert edit("crop to a square").size == (160, 160)
    assert edit("crop to 16:9").size == (240, 135)
    assert edit("crop by 10%").size == (216, 144)
    assert edit("crop the top by 10%").size == (240, 144)


def test_flips_and_turns() -> None:
    pixels = np.asarray(photo())
    assert np.array_equal(np.asarray(edit("flip horizontally")), pixels[:, ::-1])
    assert np.array_equal(np.asarray(edit("flip vertically")), pixels[::-1])
    assert np.array_equal(np.asarray(edit("rotate by 90 degrees")), np.rot90(pixels, -1))
    assert np.array_equal(np.asarray(edit("rotate 90 degrees counterclockwise")), np.rot90(pixels))


def test_small_turns_show_no_empty_corners() -> None:
    white = Image.new("RGB", (200, 120), "white")
    for degrees in (2.5, -10, 45, 80):
        turned = np.asarray(edit(f"rotate by {degrees} degrees", white))
        assert turned.min() > 250 and turned.shape[0] > 20


def test_text_is_written_where_told() -> None:
    change = np.abs(np.asarray(edit('add the text "SALE" at the bottom in white'), int) - np.asarray(photo(), int)).sum(axis=2)
    rows, columns = np.nonzero(change > 60)
    assert len(rows) > 30
    assert rows.min() > 0.75 * change.shape[0]
    assert abs(columns.mean() - change.shape[1] / 2) < 15
    written = np.asarray(edit('write "X" in #ff0000 at the top left of 30%'))[:60, :60].reshape(-1, 3)
    assert (np.abs(written.astype(int) - [255, 0, 0]).sum(axis=1) < 10).any()


def test_border_is_drawn_over_the_edge() -> None:
    framed = np.asarray(edit("add a white border of 5%"))
    assert framed.shape == np.asarray(photo()).shape
    assert (framed[:8] == 255).all() and (framed[:, -8:] == 255).all()
    assert np.array_equal(framed[8:-8, 8:-8], np.asarray(photo())[8:-8, 8:-8])


@pytest.mark.parametrize("name", ["red", "blue", "green", "orange"])
def test_a_hue_mask_covers_its_own_colour_and_not_its_opposite(name: str) -> None:
    own = COLOURS[name]
    strip = np.zeros((10, 20, 3), dtype=np.uint8)
    strip[:, :10] = own
    strip[:, 10:] = 255 - np.array(own)
    mask = Masks(strip).region(Region((Term(Area.HUE, Colour(name, own)),)))
    assert mask is not None
    assert mask[:, :8].min() > 0.9 and mask[:, 12:].max() < 0.1
