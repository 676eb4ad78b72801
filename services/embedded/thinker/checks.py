# ruff: noqa: PLR2004 - every number here is a threshold with its unit in the sentence beside it
"""Asks that are checked one by one: was it flipped, blurred, cropped, written, recoloured?

Every check answers how far the ask is done, 0..1, and says what it measured. What two
small pictures cannot prove (that the letters spell the word, that it was *her* shirt) is checked as
plausibly as a local change of the right kind in the right place, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.embedded.thinker.measurements import Comparison, radius_squared
from services.embedded.thinker.named_regions import region_mask
from services.embedded.thinker.operations import Op, colour_lab
from services.embedded.thinker.pixels import Floats


@dataclass(frozen=True)
class Finding:
    """How far an ask is done (0..1; above 1 where it is overdone) and the figure behind it."""

    op: Op
    done: float
    said: str

    @property
    def share(self) -> float:
        """The part of full marks. Overdoing costs too, but late: editors mean different things by 30 %."""
        if self.done <= 1.0:
            return max(0.0, self.done)
        return float(np.clip(1.0 - (self.done - 4.0) * 0.15, 0.5, 1.0))


Check = Callable[[Op, Comparison], tuple[float, str]]


def check(op: Op, seen: Comparison) -> Finding:
    """Check one ask on one candidate."""
    found = _CHECKS.get(op.name, _any_change)
    done, said = found(op, seen)
    return Finding(op, float(np.nan_to_num(done, nan=0.0)), said)


def _ramp(value: float, zero: float, one: float) -> float:
    """0 at `zero`, 1 at `one`, a line between and at most 1 beyond."""
    return float(np.clip((value - zero) / (one - zero), 0.0, 1.0))


def _ratio(after: float, before: float) -> float:
    return (after + 1e-3) / (before + 1e-3)


def _graded(op: Op, moved: float, full: float) -> float:
    """A change of `moved` where 30 % should give `full`; smaller and larger amounts in proportion."""
    wanted = full * max(0.15, abs(op.percent) / 30.0)
    return float(np.clip(moved * op.sign / wanted / 0.6, 0.0, 8.0))


def _region(op: Op, seen: Comparison) -> tuple[float, str]:
    """A tone or colour change confined to a part of the frame."""
    inside = region_mask(op.region, seen.source.thumb)
    shift = (seen.after_thumb - seen.source.thumb) if seen.in_place else np.zeros_like(seen.source.thumb)
    if inside is None or float(inside.mean()) < 0.002:
        return _any_change(op, seen)
    weight = inside / float(inside.mean())
    if op.name in {"saturation", "vibrance"}:
        before = float((np.hypot(seen.source.thumb[..., 1], seen.source.thumb[..., 2]) * weight).mean())
        after = float((np.hypot(seen.after_thumb[..., 1], seen.after_thumb[..., 2]) * weight).mean())
        change = 100.0 * (_ratio(after, before) - 1.0)
        return _graded(op, change, 15.0), f"colourfulness of the {op.region} {change:+.0f}%"
    axis = {"warmth": 2, "tint": 1}.get(op.name, 0)
    moved = float((shift[..., axis] * weight).mean())
    unit = ("L*", "a*", "b*")[axis]
    return _graded(op, moved, 4.0), f"{unit} of the {op.region} {moved:+.1f}"


def _texture(figure: Callable[[Comparison], tuple[float, float]], full: float, name: str) -> Check:
    """The relative change of one texture figure, `full` percent at 30 %."""

    def found(op: Op, seen: Comparison) -> tuple[float, str]:
        before, after = figure(seen)
        change = 100.0 * (_ratio(after, before) - 1.0)
        # Without an upper end: a strong blur is still the blur that was asked for.
        return min(4.0, _graded(op, change, full)), f"{name} {change:+.0f}%"

    return found


def _sharpness(seen: Comparison) -> tuple[float, float]:
    first, second = seen.before.texture, seen.after.texture
    return _ratio(first.fine, first.medium), _ratio(second.fine, second.medium)


def _local_contrast(seen: Comparison) -> tuple[float, float]:
    first, second = seen.before, seen.after
    return (
        _ratio(first.texture.medium + first.texture.coarse, first.tone.contrast),
        _ratio(second.texture.medium + second.texture.coarse, second.tone.contrast),
    )


def _grain(op: Op, seen: Comparison) -> tuple[float, str]:
    moved = seen.after.texture.grain - seen.before.texture.grain
    if op.sign < 0 or op.name == "denoise":
        share = 100.0 * (1.0 - _ratio(seen.after.texture.grain, seen.before.texture.grain))
        return _ramp(share, 2.0, 20.0), f"noise {-share:+.0f}%"
    return _graded(op, moved, 1.5), f"grain {moved:+.1f} L*"


def _tone(figure: Callable[[Comparison], tuple[float, float]], full: float, name: str) -> Check:
    """The absolute change of one tone figure, `full` at 30 %."""

    def found(op: Op, seen: Comparison) -> tuple[float, str]:
        if op.region:
            return _region(op, seen)
        before, after = figure(seen)
        return _graded(op, after - before, full), f"{name} {after - before:+.1f}"

    return found


def _towards(op: Op, seen: Comparison) -> tuple[float, str]:
    """A tint: the shift of a zone's mean (a*, b*) along the hue of a colour word."""
    colour = colour_lab(op.colour)
    if colour is None:
        return _any_change(op, seen)
    zone = {"tint shadows": slice(0, 2), "tint highlights": slice(3, 5)}.get(op.name, slice(0, 5))
    shift = (seen.after.tone.zones - seen.before.tone.zones)[zone, 1:].mean(axis=0)
    size = float(np.hypot(*colour[1:]))
    moved = float(shift @ colour[1:]) / size if size > 1 else float(np.hypot(*shift))
    return _graded(op, moved, 4.0), f"{moved:+.1f} towards {op.colour}"


def _any_change(_: Op, seen: Comparison) -> tuple[float, str]:
    change = seen.change
    return 0.7 * _ramp(change, 1.0, 4.0), f"the picture changed by {change:.1f} in CIELAB; more than that cannot be measured"


def _flip(*, upended: bool) -> Check:
    def found(_: Op, seen: Comparison) -> tuple[float, str]:
        turned = seen.upended if upended else seen.mirrored
        return _ramp(turned - seen.structure, 0.05, 0.4), f"{100 * turned:.0f}% of the detail is found again mirrored"

    return found


def _inverted(_: Op, seen: Comparison) -> tuple[float, str]:
    return _ramp(-seen.structure, 0.2, 0.6), f"detail correlates {seen.structure:+.2f} with the source's"


def _rotated(op: Op, seen: Comparison) -> tuple[float, str]:
    degrees = abs(float(op.detail or 0)) % 180
    lost = 1.0 - seen.structure
    if abs(degrees - 90) < 1 and abs(np.log(seen.source.aspect)) > 0.05:
        right = 1.0 - min(1.0, abs(float(np.log(seen.shape * seen.source.aspect**2))) * 4)
        return right * _ramp(lost, 0.2, 0.5), f"the shape is now {seen.candidate.width} x {seen.candidate.height}"
    return _ramp(lost, 0.1, 0.4), f"{100 * max(0.0, lost):.0f}% of the detail has moved"


def _cropped(op: Op, seen: Comparison) -> tuple[float, str]:
    width, height = seen.candidate.width, seen.candidate.height
    said = f"the picture is {width} x {height}"
    if op.detail == "square":
        return 1.0 - _ramp(abs(float(np.log(seen.candidate.aspect))), 0.02, 0.12), said
    if ":" in op.detail:
        across, down = (float(part) for part in op.detail.split(":"))
        if across > 0 and down > 0:
            return 1.0 - _ramp(abs(float(np.log(seen.candidate.aspect * down / across))), 0.02, 0.12), said
    moved = 1.0 - seen.structure
    smaller = width * height < 0.99 * seen.source.width * seen.source.height
    return max(_ramp(moved, 0.1, 0.4), 1.0 if smaller else 0.0), said


def _written(op: Op, seen: Comparison) -> tuple[float, str]:
    mask = region_mask(op.region, seen.source.thumb)
    odd = seen.odd > 8.0
    where = odd if mask is None else odd & (mask > 0.3)
    share, elsewhere = float(where.mean()), float(odd.mean() - where.mean())
    done = _ramp(share, 0.001, 0.006) * (1.0 - _ramp(elsewhere, 0.25, 0.6))
    return done, f"{100 * share:.1f}% of the picture changed locally where {op.detail} should stand (the letters are not read)"


def _bordered(op: Op, seen: Comparison) -> tuple[float, str]:
    frame = seen.candidate.frame
    depth = max(1, round(0.008 * min(frame.shape[:2])))
    edges = [frame[:depth], frame[-depth:], frame[:, :depth], frame[:, -depth:]]
    ring = np.concatenate([edge.reshape(-1, 3) for edge in edges])
    colour = colour_lab(op.colour)
    centre = ring.mean(axis=0) if colour is None else colour
    share = float((np.sqrt(((ring - centre) ** 2).sum(axis=1)) < 14.0).mean())
    return _ramp(share, 0.4, 0.85), f"{100 * share:.0f}% of the edge is {op.colour or 'of one colour'}"


def _hue_near(lab: Floats, colour: Floats) -> npt.NDArray[np.bool_]:
    """Where a thumb has about the hue (or, for greys, the neutrality and lightness) of a colour."""
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    if float(np.hypot(*colour[1:])) < 10:
        near: npt.NDArray[np.bool_] = (chroma < 10) & (np.abs(lab[..., 0] - colour[0]) < 25)
        return near
    turn = np.arctan2(lab[..., 2], lab[..., 1]) - np.arctan2(colour[2], colour[1])
    off = np.abs((np.degrees(turn) + 180.0) % 360.0 - 180.0)
    return np.asarray((chroma > 8) & (off < 38), dtype=np.bool_)


def _recoloured(op: Op, seen: Comparison) -> tuple[float, str]:
    colour = colour_lab(op.colour)
    if colour is None or not seen.in_place:
        return _any_change(op, seen)
    new = _hue_near(seen.after_thumb, colour) & ~_hue_near(seen.source.thumb, colour)
    moved = np.hypot(*(seen.after_thumb - seen.source.thumb)[..., 1:].transpose(2, 0, 1)) > 8
    share = float((new & moved).mean())
    said = f"{100 * share:.1f}% of the picture turned {op.colour} (whether it is {op.region or 'the right thing'} is not seen)"
    return _ramp(share, 0.002, 0.015), said


def _selective(_: Op, seen: Comparison) -> tuple[float, str]:
    before = np.hypot(seen.source.thumb[..., 1], seen.source.thumb[..., 2])
    after = np.hypot(seen.after_thumb[..., 1], seen.after_thumb[..., 2])
    greyed = float(((after < 5) & (before > 8)).sum()) / max(1.0, float((before > 8).sum()))
    kept = float((after > 10).mean())
    done = _ramp(greyed, 0.05, 0.2) * _ramp(kept, 0.001, 0.008)
    return done, f"{100 * greyed:.0f}% of the colour is gone and {100 * kept:.1f}% of the picture is still coloured"


def _background(op: Op, seen: Comparison) -> tuple[float, str]:
    colour = colour_lab(op.colour or "white")
    ring = radius_squared(*seen.after_thumb.shape[:2]) > 0.5
    if colour is None or not ring.any():
        return _any_change(op, seen)
    near = np.sqrt(((seen.after_thumb - colour) ** 2).sum(axis=2)) < 16.0
    share = float(near[ring].mean())
    whole = float(near.mean())
    done = _ramp(share, 0.25, 0.7) * (1.0 - _ramp(whole, 0.92, 0.99))
    return done, f"{100 * share:.0f}% of the surroundings are {op.colour or 'white'}"


def _background_blur(_: Op, seen: Comparison) -> tuple[float, str]:
    first, second = seen.before.texture, seen.after.texture
    edge, centre = _ratio(second.edge, first.edge), _ratio(second.centre, first.centre)
    done = _ramp(1.0 - edge, 0.05, 0.3) * _ramp(centre - edge, -0.05, 0.12)
    return done, f"detail of the surroundings {100 * (edge - 1):+.0f}%, of the centre {100 * (centre - 1):+.0f}%"


def _hazed(op: Op, seen: Comparison) -> tuple[float, str]:
    veil = 100.0 * (seen.after.tone.haze - seen.before.tone.haze)
    said = f"haze (dark channel) {veil:+.0f}"
    if op.sign > 0:
        return _graded(op, veil, 8.0), said
    steeper = 100.0 * (_ratio(seen.after.tone.contrast, seen.before.tone.contrast) - 1.0)
    clearer = max(_graded(op, veil, 3.0), _graded(Op("contrast", amount=abs(op.percent)), steeper, 6.0))
    return clearer, f"{said}, contrast {steeper:+.0f}%"


def _posterised(_: Op, seen: Comparison) -> tuple[float, str]:
    flat = seen.after.texture.flat - seen.before.texture.flat
    levels = _ratio(seen.after.texture.levels, seen.before.texture.levels)
    return max(_ramp(flat, 0.05, 0.25), _ramp(1 - levels, 0.3, 0.6)), f"flat areas {100 * flat:+.0f}% of the picture"


def _drawn(op: Op, seen: Comparison) -> tuple[float, str]:
    if op.name == "emboss":
        return _ramp(1.0 - seen.structure, 0.05, 0.35), f"{100 * (1 - seen.structure):.0f}% of the tones became relief"
    tone = seen.after.tone
    plain = 1.0 - _ramp(tone.chroma, 4.0, 12.0)
    light = _ramp(float(tone.mean[0]), 55, 75)
    return plain * light * _ramp(1.0 - seen.structure, 0.05, 0.3), f"chroma {tone.chroma:.0f}, mean L* {tone.mean[0]:.0f}"


def _turned(op: Op, seen: Comparison) -> tuple[float, str]:
    first, second = seen.source.thumb[..., 1:], seen.after_thumb[..., 1:]
    turn = np.angle(np.sum((second[..., 0] + 1j * second[..., 1]) * np.conj(first[..., 0] + 1j * first[..., 1])))
    off = abs((float(np.degrees(turn)) - float(op.detail or 0) + 180.0) % 360.0 - 180.0)
    return 1.0 - _ramp(
        off, 15.0, min(60.0, max(20.0, abs(float(op.detail or 0))))
    ), f"hues turned by {np.degrees(turn):+.0f} degrees"


_CHECKS: dict[str, Check] = {
    "exposure": _tone(lambda s: (float(s.before.tone.mean[0]), float(s.after.tone.mean[0])), 5.0, "mean L*"),
    "contrast": _tone(lambda s: (s.before.tone.contrast, s.after.tone.contrast), 2.0, "contrast"),
    "highlights": _tone(lambda s: (float(s.before.tone.zones[3, 0]), float(s.after.tone.zones[3, 0])), 4.0, "highlights L*"),
    "whites": _tone(lambda s: (float(s.before.tone.zones[4, 0]), float(s.after.tone.zones[4, 0])), 4.0, "whites L*"),
    "shadows": _tone(lambda s: (float(s.before.tone.zones[1, 0]), float(s.after.tone.zones[1, 0])), 4.0, "shadows L*"),
    "blacks": _tone(lambda s: (float(s.before.tone.zones[0, 0]), float(s.after.tone.zones[0, 0])), 5.0, "blacks L*"),
    "warmth": _tone(lambda s: (float(s.before.tone.mean[2]), float(s.after.tone.mean[2])), 6.0, "b*"),
    "tint": _tone(lambda s: (float(s.before.tone.mean[1]), float(s.after.tone.mean[1])), 5.0, "a*"),
    "saturation": _tone(lambda s: (s.before.tone.chroma, s.after.tone.chroma), 3.0, "chroma"),
    "vibrance": _tone(lambda s: (s.before.tone.chroma, s.after.tone.chroma), 2.0, "chroma"),
    "vignette": _tone(lambda s: (-s.before.tone.corner, -s.after.tone.corner), 6.0, "corner darkening"),
    "white vignette": _tone(lambda s: (s.before.tone.corner, s.after.tone.corner), 6.0, "corner brightening"),
    "haze": _hazed,
    "glow": _tone(lambda s: (float(s.before.tone.mean[0]), float(s.after.tone.mean[0])), 2.0, "mean L*"),
    "light leak": _tone(lambda s: (float(s.before.tone.mean[0]), float(s.after.tone.mean[0])), 1.5, "mean L*"),
    "tint shadows": _towards,
    "tint highlights": _towards,
    "overlay": _towards,
    "grain": _grain,
    "denoise": _grain,
    "sharpen": _texture(_sharpness, 20.0, "sharpness"),
    "blur": _texture(lambda s: _sharpness(s)[::-1], 70.0, "softness"),
    "clarity": _texture(_local_contrast, 5.0, "local contrast"),
    "flip horizontal": _flip(upended=False),
    "flip vertical": _flip(upended=True),
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
