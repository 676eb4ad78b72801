"""Each operation's effect on the pixels of a real photograph, measured in CIELAB."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from services.embedded.instructions.colour_names import COLOURS, Colour
from services.embedded.instructions.operations import Area, Region, Term
from services.embedded.regions import Regions
from services.errors import ApiError
from tests.unit.embedded.editor.photographs import chroma, detail, edit, lab, landscape, lightness, photo, tilted


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


@pytest.mark.parametrize("gains", [(1.1, 1.0, 0.6), (0.72, 0.95, 1.35)])
def test_white_balance_takes_most_of_a_cast_away_and_keeps_lightness(gains: tuple[float, float, float]) -> None:
    source = photo("astronaut")
    linear = np.power(np.asarray(source) / 255, 2.2) * gains
    cast = Image.fromarray(np.uint8(np.clip(np.power(linear, 1 / 2.2), 0, 1) * 255))
    after = edit("neutralise the colour cast", cast)
    assert np.abs(_mean(after) - _mean(source))[2] < 0.6 * np.abs(_mean(cast) - _mean(source))[2]
    assert abs(_mean(after)[0] - _mean(cast)[0]) < 1


def test_white_balance_is_refused_where_its_measures_disagree() -> None:
    with pytest.raises(ApiError, match="no colour cast was measured with certainty"):
        edit("fix the white balance", photo("rocket"))


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


def test_reducing_the_vignette_brightens_corners() -> None:
    before = lightness(photo())[-16:, -16:].mean()
    assert lightness(edit("reduce the vignette by 40%"))[-16:, -16:].mean() > before + 2


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


@pytest.mark.parametrize(("side", "near", "far"), [("top", np.s_[:30], np.s_[-30:]), ("left", np.s_[:, :40], np.s_[:, -40:])])
def test_graduated_light_acts_on_its_side(side: str, near: slice, far: slice) -> None:
    change = lightness(edit(f"darken the {side} by 40%")) - lightness(photo())
    assert change[near].mean() < -3
    assert abs(change[far].mean()) < 0.3


@pytest.mark.parametrize(("prompt", "channel", "sign"), [("boost the blues by 40%", 2, -1), ("darken the blues by 40%", 0, -1)])
def test_a_range_of_hues_changes_and_its_opposite_does_not(prompt: str, channel: int, sign: int) -> None:
    before, change = lab(landscape()), lab(edit(prompt, landscape())) - lab(landscape())
    assert (sign * change[..., channel])[:40].mean() > 1
    assert before[70:, :, 2].mean() > 10 and np.abs(change)[70:].mean() < 0.3


@pytest.mark.parametrize("prompt", ["turn the sky red", "turn the orange suit blue", "make the blues green"])
def test_what_no_mask_can_be_shown_right_for_is_refused(prompt: str) -> None:
    with pytest.raises(ApiError, match=r"without a model; .* can be") as refused:
        edit(prompt, landscape())
    assert (refused.value.code, refused.value.param) == ("edit_failed", "prompt")


@pytest.mark.parametrize(
    ("name", "prompt", "reason"),
    [
        ("camera", "make the colours pop", "nothing in the picture has a colour"),
        ("coffee", "boost the greens", "green was not found in the picture"),
        ("coffee", "straighten it", "level|straight lines"),
    ],
)
def test_what_fails_its_check_is_refused(name: str, prompt: str, reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        edit(prompt, photo(name))


@pytest.mark.parametrize("degrees", [-4.0, 2.5])
def test_straighten_undoes_a_tilt(degrees: float) -> None:
    level = np.asarray(edit("straighten the horizon", tilted(degrees)).convert("L"), dtype=float)
    edge = np.array([int(np.argmax(np.abs(np.diff(level[:, column])))) for column in (20, level.shape[1] - 20)])
    assert abs(edge[1] - edge[0]) <= 2


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


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_text_is_legible_where_the_picture_has_its_colour(colour: str) -> None:
    plain = Image.new("RGB", (320, 200), colour)
    written = np.asarray(edit(f'write "SALE" in {colour} at the bottom', plain), int)
    assert (np.abs(written - np.asarray(plain, int)).sum(axis=2) > 200).sum() > 60


def test_border_is_drawn_over_the_edge() -> None:
    framed = np.asarray(edit("add a white border of 5%"))
    assert framed.shape == np.asarray(photo()).shape
    assert (framed[:8] == 255).all() and (framed[:, -8:] == 255).all()
    assert np.array_equal(framed[8:-8, 8:-8], np.asarray(photo())[8:-8, 8:-8])


@pytest.mark.parametrize(
    "name", ["red", "blue", "green", "orange", "yellow", "cyan", "teal", "purple", "violet", "magenta", "pink", "gold"]
)
def test_a_hue_mask_covers_its_own_colour_and_not_its_opposite(name: str) -> None:
    own = COLOURS[name]
    strip = np.zeros((40, 80, 3), dtype=np.uint8)
    strip[:, :40] = own
    strip[:, 40:] = 255 - np.array(own)
    mask = Regions(strip).mask(Region((Term(Area.HUE, Colour(name, own)),)))
    assert mask is not None
    assert mask[:, :36].min() > 0.9 and mask[:, 44:].max() < 0.1
