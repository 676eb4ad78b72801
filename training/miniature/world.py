"""Scenes in which a thinker must look, and the editor that carries its instructions out.

A scene is a source picture with a hidden target and an instruction that does not say what to do but what is wanted. Most sources
are *faulty*: a photograph with a random exposure, cast, or shadow over one side, whose right answer is the photograph itself.
"correct the exposure" then means up for one source and down for the next, so no fixed instruction can do well: the direction is
in the picture. The first world of this project had one recipe for each instruction and no faults, and a look-up by instruction
removed all but 1.1 of 18 of the distance: a thinker could learn it with its eyes shut. What makes the difference here:

- faults are drawn in both directions, and about 15 % of the sources that are to be corrected are right already;
- looks are aims, not amounts (`training.miniature.looks`), on sources that are faulty too;
- for "match the other picture" only the other picture says what is wanted;
- explicit orders and "leave it as it is" are the counterweight: there looking changes little, and doing too much costs.

Measured on 2026-11-30 (80 scenes of held-out photographs and looks, mean CIELAB, 95 % interval over scenes): of a whole distance
of 13.6 the best look-up leaves 12.0 and the best instruction of each picture 2.8, a gap of .68 [.57, .79] of the whole. The best
instruction is searched with the target in view: how much of it the source alone gives away is not known.

The seed of a scene varies the strength of each of the editor's sliders (0.76 to 1.31). As in the orchestrator, a refined
instruction is edited with the seed of the first turn, so what the first candidate shows tells how far the second must go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from PIL import Image

from services.editor.pipelines.base import EditJob
from services.embedded.editor import ClassicalPipeline
from services.errors import ApiError
from training.miniature import colour, phrases
from training.miniature.looks import HELD_OUT, TRAINED, Look
from training.miniature.photographs import SIDE, SPLITS, Pixels, Split, crop

Intent = Literal["cast", "exposure", "repair", "side", "match", "look", "order", "leave"]
INTENTS: Final[tuple[Intent, ...]] = ("cast", "exposure", "repair", "side", "match", "look", "order", "leave")
SIDES: Final = ("left", "right", "top", "bottom")

_RIGHT_ALREADY: Final = 0.15
_STEP: Final = 4  # percent: amounts are multiples of it, so that each is one word of a small vocabulary
_ORDER_LEAST, _ORDER_MOST = 12, 60
_EDITOR: Final = ClassicalPipeline()
_SLIDER: Final = re.compile(r"([a-z ]+) ([+-]\d{1,3})%")
_TINT: Final = re.compile(r"tint towards (magenta|green) (\d{1,3})%")


@dataclass(frozen=True)
class Splits:
    """Where each part of a scene comes from.

    Attributes:
        photographs: files.
        words: phrases.
        looks: recipes of references. Named looks are always those of training.
    """

    photographs: Split = "train"
    words: Split = "train"
    looks: Split = "train"


@dataclass(frozen=True, eq=False)
class Scene:
    """One task.

    Attributes:
        intent: the kind of instruction.
        key: what a reader of the instruction alone can know: the intent, the look's name, or the order.
        instruction: the caller's words.
        source, target: (`SIDE`, `SIDE`, 3) eight-bit sRGB; the target is hidden.
        reference: the other picture, if the instruction is about one.
        seed: of the editor.
        photograph: file of the source.
        look: name of the recipe in the target; empty without one.
    """

    intent: Intent
    key: str
    instruction: str
    source: Pixels
    target: Pixels
    reference: Pixels | None
    seed: int
    photograph: str
    look: str = ""

    @property
    def whole(self) -> float:
        """Distance from source to target; 0 where nothing is to be done."""
        return colour.distance(self.source, self.target)


class FailedEditError(Exception):
    """The editor refused; the message says what it does not do."""


@lru_cache(maxsize=1)
def operations() -> tuple[str, ...]:
    """Names of the adjustments that an instruction can be written with, in the order in which it is written."""
    return (
        *("exposure", "contrast", "shadows", "highlights", "warmth", "tint", "saturation"),
        *(f"{side} exposure" for side in SIDES),
        *("vignette", "sepia"),
    )


def written(amounts: dict[str, int]) -> str:
    """The instruction for amounts in percent, as ``exposure +12%, warmth -8%``.

    Never empty: where nothing is to be done it is ``exposure +0%``, which the editor carries out and which changes nothing.
    """
    parts = [_clause(name, amounts[name]) for name in operations() if amounts.get(name)]
    return ", ".join(parts) or "exposure +0%"


def read(instruction: str) -> dict[str, int] | None:
    """The amounts of an instruction in the form of `written`; None in another form."""
    found: dict[str, int] = {}
    for part in instruction.split(", "):
        slider, tint = _SLIDER.fullmatch(part), _TINT.fullmatch(part)
        if tint is not None:
            found["tint"] = int(tint[2]) * (1 if tint[1] == "magenta" else -1)
        elif slider is not None and slider[1] in operations():
            found[slider[1]] = int(slider[2])
        else:
            return None
    return {name: amount for name, amount in found.items() if amount}


def _clause(name: str, amount: int) -> str:
    if name == "tint":
        # "tint +8%" is a layer of colour to the editor.
        return f"tint towards {'magenta' if amount > 0 else 'green'} {abs(amount)}%"
    return f"{name} {amount:+d}%"


def edit(source: Pixels, instruction: str, seed: int) -> Pixels:
    """The source, edited.

    Raises:
        FailedEditError: the editor does not do this.
    """
    try:
        result = _EDITOR.edit(EditJob(Image.fromarray(source), instruction, seed=seed))
    except ApiError as exc:
        raise FailedEditError(str(exc)) from exc
    edited = np.asarray(result.image.convert("RGB"))
    if edited.shape != source.shape:  # a crop: compared as it would be looked at
        edited = np.asarray(result.image.convert("RGB").resize(source.shape[1::-1], Image.Resampling.BOX))
    return edited


def scene(intent: Intent, rng: np.random.Generator, splits: Splits | None = None) -> Scene:
    """A random scene of one kind."""
    splits = splits or Splits()
    photograph = str(rng.choice(SPLITS[splits.photographs]))
    clean, place = crop(photograph, rng)
    if rng.random() < 0.5:  # noqa: PLR2004 - mirrored
        clean = np.ascontiguousarray(clean[:, ::-1])
    seed = int(rng.integers(0, 2**31))
    base = Scene(intent, intent, "", clean, clean, None, seed, photograph)
    if intent == "order":
        return _ordered(base, splits, rng)
    if intent == "look":
        name = str(rng.choice(list(TRAINED)))
        words = phrases.instruction(splits.words, "looks", name, rng)
        source = _faulty(clean, rng, ("exposure", "cast", "chroma"), 0.8)
        return replace(base, key=name, instruction=words, source=source, target=TRAINED[name].of(clean), look=name)
    words = phrases.instruction(splits.words, "intents", intent, rng)
    if intent == "match":
        name, look = _look(splits.looks, rng)
        other, _ = crop(photograph, rng, (place[0], place[1], place[2]))
        source = _faulty(clean, rng, ("exposure", "cast", "chroma"), 0.6)
        return replace(base, instruction=words, source=source, target=look.of(clean), reference=look.of(other), look=name)
    if intent == "leave":
        as_found = _faulty(clean, rng, ("exposure", "cast"), 0.7)
        return replace(base, instruction=words, source=as_found, target=as_found)
    if rng.random() < _RIGHT_ALREADY:
        return replace(base, instruction=words)
    faults = {"cast": ("cast",), "exposure": ("exposure",), "repair": ("exposure", "cast", "chroma"), "side": ("side",)}[intent]
    return replace(base, instruction=words, source=_faulty(clean, rng, faults, 1.0))


def scenes(count: int, seed: int, splits: Splits | None = None, intents: Iterable[Intent] = INTENTS) -> list[Scene]:
    """`count` scenes, the intents in turn."""
    kinds = tuple(intents)
    return [scene(kinds[index % len(kinds)], np.random.default_rng((seed, index)), splits) for index in range(count)]


def _look(split: Split, rng: np.random.Generator) -> tuple[str, Look]:
    looks = TRAINED if split == "train" else HELD_OUT
    name = str(rng.choice(list(looks)))
    return name, looks[name]


def _faulty(clean: Pixels, rng: np.random.Generator, faults: tuple[str, ...], extent: float) -> Pixels:
    """The photograph as a bad camera would have given it; each fault in a random direction."""
    picture = clean
    if "chroma" in faults:
        values = colour.lab(picture)
        values[..., 1:] *= 2.0 ** (extent * rng.uniform(-0.8, 0.4))
        picture = colour.pixels_of(values)
    if "cast" in faults:
        angle, size = rng.uniform(0, 2 * np.pi), extent * rng.uniform(10, 24)
        picture = colour.tinted(picture, 0.7 * size * np.cos(angle), size * np.sin(angle))
    if "exposure" in faults:
        picture = colour.exposed(picture, extent * (rng.uniform(-1.7, -0.5) if rng.random() < 0.5 else rng.uniform(0.5, 1.5)))  # noqa: PLR2004
    if "side" in faults:
        ramp = np.clip(1 - np.linspace(0, 2.0, SIDE), 0, 1)
        ramp = ramp * ramp * (3 - 2 * ramp)
        plane = np.tile(ramp, (SIDE, 1))
        plane = {"left": plane, "right": plane[:, ::-1], "top": plane.T, "bottom": plane.T[::-1]}[str(rng.choice(SIDES))]
        stops = rng.uniform(-2.4, -1.0) if rng.random() < 0.6 else rng.uniform(0.8, 1.6)  # noqa: PLR2004 - mostly too dark
        picture = colour.exposed(picture, (stops * plane)[..., None])
    return picture


def _ordered(base: Scene, splits: Splits, rng: np.random.Generator) -> Scene:
    forms = phrases.table(splits.words)["orders"]
    name = str(rng.choice(list(forms)))
    amount = _STEP * int(rng.integers(_ORDER_LEAST // _STEP, _ORDER_MOST // _STEP + 1))
    if "down" in forms[name] and rng.random() < 0.5:  # noqa: PLR2004
        amount = -amount
    words = phrases.order(splits.words, name, amount, rng)
    source = _faulty(base.source, rng, ("exposure", "cast"), 0.5)
    order = written({name: amount})
    return replace(base, key=order, instruction=words, source=source, target=edit(source, order, plain_seed(name)))


@lru_cache(maxsize=32)
def plain_seed(name: str) -> int:
    """A seed under which an adjustment acts as strongly as it says, found by comparing pictures.

    The median of a symmetric draw: the seed whose picture is the middle one of 41 by its distance from the source.
    """
    probe = np.ascontiguousarray(crop(SPLITS["train"][0], np.random.default_rng(0))[0])
    reached = [colour.distance(probe, edit(probe, written({name: 40}), seed)) for seed in range(41)]
    return int(np.argsort(reached)[20])
