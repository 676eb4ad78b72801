"""What an edit ruined that nobody asked it to: clipping, lost detail, false colours, flat tones, noise, and changes elsewhere."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from benchmarks.colorimetry import Picture, Pixels
from benchmarks.honesty.measures import Compared, fine, noise
from benchmarks.honesty.pairs import Mask, Pair, Photo

# Limits set by looking at answers of the stand-ins on 2026-11-30: a person calls the picture ruined at about these.
CLIPPED: Final = 0.10
"""Share of the picture that became pure white or pure black."""
NEAR_END: Final = 6
"""Levels from an end of the scale within which a pixel was as good as clipped before."""
SATURATED: Final = 0.30
"""Share of the picture of which one channel, newly, is at its end."""
DETAIL: Final = 0.35
"""Of the detail where the source has most."""
SKIN_HUES: Final = (5.0, 100.0)
"""Skin, fur and bread are between red and yellow, in degrees of CIELAB hue."""
SKIN_CHROMA: Final = 58.0
CAST: Final = 26.0
"""Chroma that a white or grey object may have, beyond its own."""
LEVELS: Final = 0.45
"""Of the grey levels that smooth areas have."""
GREY: Final = 2
"""Levels by which the channels of a grey pixel may differ."""
NOISE: Final = 1.6
"""Deviation in L."""
ELSEWHERE: Final = 3.0
"""Mean ΔE where nothing may change."""
MARGIN: Final = 0.03
"""Around a region that may change, as a share of the longest side: hand-drawn outlines and feathered masks are not exact."""


def damage(pair: Pair, photo: Photo, compared: Compared) -> list[str]:
    """What is ruined, each in words; what the instruction itself asks for is not counted."""
    found: list[str] = []
    if "geometry" in pair.free:
        return found
    if compared.answer.shape != compared.source.shape:
        found.append(f"size {compared.answer.shape[1]} x {compared.answer.shape[0]}")
    if "clipping" not in pair.free:
        found += _clipping(compared)
    if "detail" not in pair.free:
        found += _detail(compared)
    if "colour" not in pair.free:
        found += _false_colours(photo, compared)
    if "tones" not in pair.free:
        found += _flat_tones(compared)
    if not pair.free & {"grain", "detail"}:
        found += _noise(compared)
    return found + _elsewhere(pair, photo, compared)


def clipped(pixels: Pixels) -> Mask:
    """Where a picture is pure white or pure black."""
    return np.asarray((pixels >= 254).all(axis=-1) | (pixels <= 1).all(axis=-1))


def _clipping(compared: Compared) -> list[str]:
    found = []
    # A black background that goes from 3 to 1 has lost nothing that a person can see.
    moved = np.abs(compared.after.astype(np.int16) - compared.source).max(axis=-1) > NEAR_END
    share = float((clipped(compared.after) & ~clipped(compared.source) & moved).mean())
    if share > CLIPPED:
        found.append(f"{share:.0%} clipped")
    ends = [(side >= 254).any(axis=-1) for side in (compared.source, compared.after)]
    share = float((ends[1] & ~ends[0]).mean())
    if share > SATURATED:
        found.append(f"{share:.0%} with a channel at its end")
    return found


def _blocks(plane: Picture, size: int) -> Picture:
    """The plane as one row a block."""
    height, width = (side // size * size for side in plane.shape)
    cut = plane[:height, :width].reshape(height // size, size, width // size, size)
    return np.asarray(cut.swapaxes(1, 2).reshape(-1, size * size))


def _detail(compared: Compared) -> list[str]:
    before, after = (np.abs(_blocks(fine(side[..., 0]), 16)).mean(axis=1) for side in (compared.lab_before, compared.lab_after))
    if len(before) < 8:
        return []
    rich = before >= np.percentile(before, 75)
    kept = float(np.median(after[rich] / np.maximum(before[rich], 0.05)))
    return [f"{kept:.0%} of the detail left"] if kept < DETAIL else []


def _mean(picture: Picture, mask: Mask) -> tuple[float, float]:
    """Hue angle and chroma of the mean colour."""
    a, b = picture[mask][:, 1:].mean(axis=0)
    return float(np.degrees(np.arctan2(b, a)) % 360), float(np.hypot(a, b))


def _false_colours(photo: Photo, compared: Compared) -> list[str]:
    found = []
    if (skin := photo.regions.get("skin")) is not None and skin.any():
        hue, strength = _mean(compared.lab_after, skin)
        own_hue, own_strength = _mean(compared.lab_before, skin)
        # A photograph with a cast may keep it: only what became worse counts.
        own = own_strength > 8 and not SKIN_HUES[0] <= own_hue <= SKIN_HUES[1]
        if not own and strength > 8 and not SKIN_HUES[0] <= hue <= SKIN_HUES[1]:
            found.append(f"skin or fur of hue {hue:.0f}")
        if strength > max(SKIN_CHROMA, own_strength + 22):
            found.append(f"skin or fur of chroma {strength:.0f}")
    if (neutral := photo.regions.get("neutral")) is not None and neutral.any():
        before, after = (_mean(side, neutral)[1] for side in (compared.lab_before, compared.lab_after))
        if after - before > CAST:
            found.append(f"white or grey has a chroma of {after:.0f}")
    return found


def _flat_tones(compared: Compared) -> list[str]:
    """Posterisation: smooth areas, with many levels in the source, have few in the answer."""
    sums = [side.astype(np.float64).sum(axis=-1) for side in (compared.source, compared.after)]
    if (np.ptp(compared.after, axis=-1) <= GREY).all():
        # Three channels that are rounded apart have up to three times the levels that one grey can have.
        sums = [np.rint(plane / 3) for plane in sums]
    before, after = (_blocks(plane, 32) for plane in sums)
    counts = np.array([[len(np.unique(row)) for row in side] for side in (before, after)], dtype=np.float64)
    smooth = counts[0] >= 24
    # A block that became darker or flatter has fewer levels by right: compare with the range that it now has.
    ranges = np.array([np.percentile(side, 95, axis=1) - np.percentile(side, 5, axis=1) for side in (before, after)])
    expected = counts[0] * np.minimum(1.0, (ranges[1] + 1) / (ranges[0] + 1))
    usable = smooth & (expected >= 12)
    if usable.sum() < 8:
        return []
    kept = float(np.percentile(counts[1][usable] / expected[usable], 30))
    return [f"posterised: {kept:.0%} of the levels"] if kept < LEVELS else []


def _noise(compared: Compared) -> list[str]:
    before, after = (noise(side[..., 0]) for side in (compared.lab_before, compared.lab_after))
    return [f"noise of {after:.1f} L, {before:.1f} before"] if after - before > NOISE and after > 2 * before else []


def _elsewhere(pair: Pair, photo: Photo, compared: Compared) -> list[str]:
    changed = []
    if pair.only:
        reach = max(3, round(MARGIN * max(compared.source.shape[:2])))
        grown = cv2.dilate(photo.regions[pair.only].astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        changed.append((f"outside the {pair.only}", grown == 0))
    if pair.outside:
        changed.append((f"in the {pair.outside}", photo.regions[pair.outside]))
    found = []
    for words, mask in changed:
        gap = float(compared.delta[mask].mean()) if mask.any() else 0.0
        if gap > ELSEWHERE:
            found.append(f"changed {words}: ΔE {gap:.1f}")
    return found
