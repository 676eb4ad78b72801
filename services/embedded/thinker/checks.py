# ruff: noqa: PLR2004 - every number here is a threshold whose unit is in the description next to it
"""Checks of single operations: was the picture flipped, blurred, cropped, written on, recoloured?

Every check returns how far the operation is done, 0..1, and a description of what it measured. What two small pictures
cannot prove (that the letters spell the word, that the right object was recoloured) is checked as a local change of the
right kind in the right place, and the description says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.embedded.thinker.measurements import Comparison, Texture, Tone, radius_squared
from services.embedded.thinker.named_regions import region_mask
from services.embedded.thinker.operations import Op, colour_lab
from services.embedded.thinker.pixels import Floats


@dataclass(frozen=True)
class Finding:
    """How far an operation is done (0..1; above 1 where it is overdone), and a description with the figure."""

    op: Op
    done: float
    description: str

    @property
    def share(self) -> float:
        """The part of the full score; overdoing costs only above four times the amount, as editors scale sliders differently."""
        if self.done <= 1.0:
            return max(0.0, self.done)
        return float(np.clip(1.0 - (self.done - 4.0) * 0.15, 0.5, 1.0))


Check = Callable[[Op, Comparison], tuple[float, str]]


def check(op: Op, comparison: Comparison) -> Finding:
    """Check one operation on one candidate."""
    found = _CHECKS.get(op.name, _any_change)
    done, description = found(op, comparison)
    return Finding(op, float(np.nan_to_num(done, nan=0.0)), description)


def _ramp(value: float, zero: float, one: float) -> float:
    """0 at `zero`, 1 at `one`, linear between and clipped outside."""
    return float(np.clip((value - zero) / (one - zero), 0.0, 1.0))


def _ratio(after: float, before: float) -> float:
    return (after + 1e-3) / (before + 1e-3)


def _graded(op: Op, moved: float, full: float) -> float:
    """How far an operation is done by a change of `moved`, where 30 % should give `full`, in proportion to the amount."""
    wanted = full * max(0.15, abs(op.percent) / 30.0)
    return float(np.clip(moved * op.sign / wanted / 0.6, 0.0, 8.0))


def _region(op: Op, comparison: Comparison) -> tuple[float, str]:
    """A tone or colour change confined to a part of the picture."""
    inside = region_mask(op.region, comparison.source.thumb)
    shift = (comparison.after_thumb - comparison.source.thumb) if comparison.in_place else np.zeros_like(comparison.source.thumb)
    if inside is None or float(inside.mean()) < 0.002:
        return _any_change(op, comparison)
    weight = inside / float(inside.mean())
    if op.name in {"saturation", "vibrance"}:
        before = float((np.hypot(comparison.source.thumb[..., 1], comparison.source.thumb[..., 2]) * weight).mean())
        after = float((np.hypot(comparison.after_thumb[..., 1], comparison.after_thumb[..., 2]) * weight).mean())
        change = 100.0 * (_ratio(after, before) - 1.0)
        return _graded(op, change, 15.0), f"colourfulness of the {op.region} {change:+.0f}%"
    axis = {"warmth": 2, "tint": 1}.get(op.name, 0)
    moved = float((shift[..., axis] * weight).mean())
    unit = ("L*", "a*", "b*")[axis]
    return _graded(op, moved, 4.0), f"{unit} of the {op.region} {moved:+.1f}"


def _texture(figure: Callable[[Texture, Tone], float], full: float, name: str, *, inverse: bool = False) -> Check:
    """The relative change of one texture figure, `full` percent at 30 %; `inverse` measures its decrease."""

    def found(op: Op, comparison: Comparison) -> tuple[float, str]:
        before, after = (figure(measured.texture, measured.tone) for measured in (comparison.before, comparison.after))
        if inverse:
            before, after = after, before
        change = 100.0 * (_ratio(after, before) - 1.0)
        # Capped at 4, where no overdoing is charged: a strong blur is still the requested blur.
        return min(4.0, _graded(op, change, full)), f"{name} {change:+.0f}%"

    return found


def _sharpness(texture: Texture, _: Tone) -> float:
    return _ratio(texture.fine, texture.medium)


def _local_contrast(texture: Texture, tone: Tone) -> float:
    return _ratio(texture.medium + texture.coarse, tone.contrast)


def _grain(op: Op, comparison: Comparison) -> tuple[float, str]:
    moved = comparison.after.texture.grain - comparison.before.texture.grain
    if op.sign < 0 or op.name == "denoise":
        share = 100.0 * (1.0 - _ratio(comparison.after.texture.grain, comparison.before.texture.grain))
        return _ramp(share, 2.0, 20.0), f"noise {-share:+.0f}%"
    return _graded(op, moved, 1.5), f"grain {moved:+.1f} L*"


def _tone(figure: Callable[[Tone], float], full: float, name: str) -> Check:
    """The absolute change of one tone figure, `full` at 30 %."""

    def found(op: Op, comparison: Comparison) -> tuple[float, str]:
        if op.region:
            return _region(op, comparison)
        moved = figure(comparison.after.tone) - figure(comparison.before.tone)
        return _graded(op, moved, full), f"{name} {moved:+.1f}"

    return found


def _towards(op: Op, comparison: Comparison) -> tuple[float, str]:
    """A tint: the shift of a zone's mean (a*, b*) along the hue of a colour word."""
    colour = colour_lab(op.colour)
    if colour is None:
        return _any_change(op, comparison)
    zone = {"tint shadows": slice(0, 2), "tint highlights": slice(3, 5)}.get(op.name, slice(0, 5))
    shift = (comparison.after.tone.zones - comparison.before.tone.zones)[zone, 1:].mean(axis=0)
    size = float(np.hypot(*colour[1:]))
    moved = float(shift @ colour[1:]) / size if size > 1 else float(np.hypot(*shift))
    return _graded(op, moved, 4.0), f"{moved:+.1f} towards {op.colour}"


def _any_change(_: Op, comparison: Comparison) -> tuple[float, str]:
    change = comparison.change
    return 0.7 * _ramp(change, 1.0, 4.0), f"the picture changed by {change:.1f} in CIELAB; more than that cannot be measured"


def _flip(*, flipped: bool) -> Check:
    def found(_: Op, comparison: Comparison) -> tuple[float, str]:
        turned = comparison.flipped if flipped else comparison.mirrored
        return _ramp(turned - comparison.structure, 0.05, 0.4), f"{100 * turned:.0f}% of the detail is found again mirrored"

    return found


def _inverted(_: Op, comparison: Comparison) -> tuple[float, str]:
    return _ramp(-comparison.structure, 0.2, 0.6), f"detail correlates {comparison.structure:+.2f} with the source's"


def _rotated(op: Op, comparison: Comparison) -> tuple[float, str]:
    degrees = abs(float(op.detail or 0)) % 180
    lost = 1.0 - comparison.structure
    if abs(degrees - 90) < 1 and abs(np.log(comparison.source.aspect)) > 0.05:
        right = 1.0 - min(1.0, abs(float(np.log(comparison.shape * comparison.source.aspect**2))) * 4)
        return right * _ramp(lost, 0.2, 0.5), f"the shape is now {comparison.candidate.width} x {comparison.candidate.height}"
    return _ramp(lost, 0.1, 0.4), f"{100 * max(0.0, lost):.0f}% of the detail has moved"


def _cropped(op: Op, comparison: Comparison) -> tuple[float, str]:
    width, height = comparison.candidate.width, comparison.candidate.height
    description = f"the picture is {width} x {height}"
    if op.detail == "square":
        return 1.0 - _ramp(abs(float(np.log(comparison.candidate.aspect))), 0.02, 0.12), description
    if ":" in op.detail:
        across, down = (float(part) for part in op.detail.split(":"))
        if across > 0 and down > 0:
            return 1.0 - _ramp(abs(float(np.log(comparison.candidate.aspect * down / across))), 0.02, 0.12), description
    moved = 1.0 - comparison.structure
    smaller = width * height < 0.99 * comparison.source.width * comparison.source.height
    return max(_ramp(moved, 0.1, 0.4), 1.0 if smaller else 0.0), description


def _written(op: Op, comparison: Comparison) -> tuple[float, str]:
    mask = region_mask(op.region, comparison.source.thumb)
    local_change = comparison.local_change > 8.0
    where = local_change if mask is None else local_change & (mask > 0.3)
    share, outside = float(where.mean()), float(local_change.mean() - where.mean())
    done = _ramp(share, 0.001, 0.006) * (1.0 - _ramp(outside, 0.25, 0.6))
    return done, f"{100 * share:.1f}% of the picture changed locally where {op.detail} should stand (the letters are not read)"


def _bordered(op: Op, comparison: Comparison) -> tuple[float, str]:
    frame = comparison.candidate.frame
    depth = max(1, round(0.008 * min(frame.shape[:2])))
    edges = [frame[:depth], frame[-depth:], frame[:, :depth], frame[:, -depth:]]
    ring = np.concatenate([edge.reshape(-1, 3) for edge in edges])
    colour = colour_lab(op.colour)
    centre = ring.mean(axis=0) if colour is None else colour
    share = float((np.sqrt(((ring - centre) ** 2).sum(axis=1)) < 14.0).mean())
    return _ramp(share, 0.4, 0.85), f"{100 * share:.0f}% of the edge is {op.colour or 'of one colour'}"


def _hue_near(lab: Floats, colour: Floats) -> npt.NDArray[np.bool_]:
    """Where a thumb has about the hue of a colour; for greys, the neutrality and lightness."""
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    if float(np.hypot(*colour[1:])) < 10:
        near: npt.NDArray[np.bool_] = (chroma < 10) & (np.abs(lab[..., 0] - colour[0]) < 25)
        return near
    turn = np.arctan2(lab[..., 2], lab[..., 1]) - np.arctan2(colour[2], colour[1])
    off = np.abs((np.degrees(turn) + 180.0) % 360.0 - 180.0)
    return np.asarray((chroma > 8) & (off < 38), dtype=np.bool_)


def _recoloured(op: Op, comparison: Comparison) -> tuple[float, str]:
    colour = colour_lab(op.colour)
    if colour is None or not comparison.in_place:
        return _any_change(op, comparison)
    new = _hue_near(comparison.after_thumb, colour) & ~_hue_near(comparison.source.thumb, colour)
    moved = np.hypot(*(comparison.after_thumb - comparison.source.thumb)[..., 1:].transpose(2, 0, 1)) > 8
    share = float((new & moved).mean())
    thing = op.region or "the right thing"
    description = f"{100 * share:.1f}% of the picture turned {op.colour} (whether it is {thing} is not seen)"
    return _ramp(share, 0.002, 0.015), description


def _selective(_: Op, comparison: Comparison) -> tuple[float, str]:
    before = np.hypot(comparison.source.thumb[..., 1], comparison.source.thumb[..., 2])
    after = np.hypot(comparison.after_thumb[..., 1], comparison.after_thumb[..., 2])
    greyed = float(((after < 5) & (before > 8)).sum()) / max(1.0, float((before > 8).sum()))
    coloured = float((after > 10).mean())
    done = _ramp(greyed, 0.05, 0.2) * _ramp(coloured, 0.001, 0.008)
    return done, f"{100 * greyed:.0f}% of the colour is gone and {100 * coloured:.1f}% of the picture is still coloured"


def _background(op: Op, comparison: Comparison) -> tuple[float, str]:
    colour = colour_lab(op.colour or "white")
    ring = radius_squared(*comparison.after_thumb.shape[:2]) > 0.5
    if colour is None or not ring.any():
        return _any_change(op, comparison)
    near = np.sqrt(((comparison.after_thumb - colour) ** 2).sum(axis=2)) < 16.0
    share = float(near[ring].mean())
    whole = float(near.mean())
    done = _ramp(share, 0.25, 0.7) * (1.0 - _ramp(whole, 0.92, 0.99))
    return done, f"{100 * share:.0f}% of the surroundings are {op.colour or 'white'}"


def _background_blur(_: Op, comparison: Comparison) -> tuple[float, str]:
    first, second = comparison.before.texture, comparison.after.texture
    edge, centre = _ratio(second.edge, first.edge), _ratio(second.centre, first.centre)
    done = _ramp(1.0 - edge, 0.05, 0.3) * _ramp(centre - edge, -0.05, 0.12)
    return done, f"detail of the surroundings {100 * (edge - 1):+.0f}%, of the centre {100 * (centre - 1):+.0f}%"


def _hazed(op: Op, comparison: Comparison) -> tuple[float, str]:
    veil = 100.0 * (comparison.after.tone.haze - comparison.before.tone.haze)
    description = f"haze (dark channel) {veil:+.0f}"
    if op.sign > 0:
        return _graded(op, veil, 8.0), description
    steeper = 100.0 * (_ratio(comparison.after.tone.contrast, comparison.before.tone.contrast) - 1.0)
    clearer = max(_graded(op, veil, 3.0), _graded(Op("contrast", amount=abs(op.percent)), steeper, 6.0))
    return clearer, f"{description}, contrast {steeper:+.0f}%"


def _posterised(_: Op, comparison: Comparison) -> tuple[float, str]:
    flat = comparison.after.texture.flat - comparison.before.texture.flat
    levels = _ratio(comparison.after.texture.levels, comparison.before.texture.levels)
    return max(_ramp(flat, 0.05, 0.25), _ramp(1 - levels, 0.3, 0.6)), f"flat areas {100 * flat:+.0f}% of the picture"


def _drawn(op: Op, comparison: Comparison) -> tuple[float, str]:
    lost = 1.0 - comparison.structure
    if op.name == "emboss":
        return _ramp(lost, 0.05, 0.35), f"{100 * lost:.0f}% of the tones became relief"
    tone = comparison.after.tone
    plain = 1.0 - _ramp(tone.chroma, 4.0, 12.0)
    light = _ramp(float(tone.mean[0]), 55, 75)
    return plain * light * _ramp(lost, 0.05, 0.3), f"chroma {tone.chroma:.0f}, mean L* {tone.mean[0]:.0f}"


def _turned(op: Op, comparison: Comparison) -> tuple[float, str]:
    first, second = comparison.source.thumb[..., 1:], comparison.after_thumb[..., 1:]
    turn = np.angle(np.sum((second[..., 0] + 1j * second[..., 1]) * np.conj(first[..., 0] + 1j * first[..., 1])))
    degrees = float(op.detail or 0)
    off = abs((float(np.degrees(turn)) - degrees + 180.0) % 360.0 - 180.0)
    return 1.0 - _ramp(off, 15.0, min(60.0, max(20.0, abs(degrees)))), f"hues turned by {np.degrees(turn):+.0f} degrees"


_CHECKS: dict[str, Check] = {
    "exposure": _tone(lambda tone: float(tone.mean[0]), 5.0, "mean L*"),
    "contrast": _tone(lambda tone: tone.contrast, 2.0, "contrast"),
    "highlights": _tone(lambda tone: float(tone.zones[3, 0]), 4.0, "highlights L*"),
    "whites": _tone(lambda tone: float(tone.zones[4, 0]), 4.0, "whites L*"),
    "shadows": _tone(lambda tone: float(tone.zones[1, 0]), 4.0, "shadows L*"),
    "blacks": _tone(lambda tone: float(tone.zones[0, 0]), 5.0, "blacks L*"),
    "warmth": _tone(lambda tone: float(tone.mean[2]), 6.0, "b*"),
    "tint": _tone(lambda tone: float(tone.mean[1]), 5.0, "a*"),
    "saturation": _tone(lambda tone: tone.chroma, 3.0, "chroma"),
    "vibrance": _tone(lambda tone: tone.chroma, 2.0, "chroma"),
    "vignette": _tone(lambda tone: -tone.corner, 6.0, "corner darkening"),
    "white vignette": _tone(lambda tone: tone.corner, 6.0, "corner brightening"),
    "haze": _hazed,
    "glow": _tone(lambda tone: float(tone.mean[0]), 2.0, "mean L*"),
    "light leak": _tone(lambda tone: float(tone.mean[0]), 1.5, "mean L*"),
    "tint shadows": _towards,
    "tint highlights": _towards,
    "overlay": _towards,
    "grain": _grain,
    "denoise": _grain,
    "sharpen": _texture(_sharpness, 20.0, "sharpness"),
    "blur": _texture(_sharpness, 70.0, "softness", inverse=True),
    "clarity": _texture(_local_contrast, 5.0, "local contrast"),
    "flip horizontal": _flip(flipped=False),
    "flip vertical": _flip(flipped=True),
    "invert": _inverted,
    "rotate": _rotated,
    "crop": _cropped,
    "text": _written,
    "border": _bordered,
    "recolour": _recoloured,
    "selective": _selective,
    "background": _background,
    "background blur": _background_blur,
    "posterise": _posterised,
    "pixelate": _posterised,
    "sketch": _drawn,
    "emboss": _drawn,
    "hue": _turned,
}
