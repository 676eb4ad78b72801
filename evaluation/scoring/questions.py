"""What a judge is asked about a result of each benchmark, and how its replies become scores.

Which pictures go with a question, and in which order, follows the official scripts that the modules of `evaluation.aggregation`
name.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from evaluation import replies
from evaluation.aggregation import gedit, imgedit, krisbench, plain, risebench
from evaluation.aggregation.scored import Scored
from evaluation.items import Item
from evaluation.scoring.prompts import Prompts

Values = Mapping[str, float | None]
_FIVE: Final = range(1, 6)
_RISE_SIDE: Final = 768
"""Pixels of the longer side in ``gpt_eval.py``."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture in a question, with a few words before it."""

    picture: bytes
    words: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge."""

    name: str
    text: str
    pictures: Sequence[Shown]


def questions(kind: str, item: Item, result: bytes, prompts: Prompts) -> list[Question]:
    """The questions about an item's result.

    Raises:
        PromptError: when a text is missing.
        DatasetError: when a picture of the item cannot be read.
    """
    return _KINDS[kind](item, result, prompts)


def expected(kind: str, item: Item) -> tuple[str, ...]:
    """The names of an item's questions."""
    if kind == "gedit":
        return ("semantics", "quality")
    if kind == "risebench":
        names = ("reasoning",) if item.extra["consistency_free"] else ("consistency", "reasoning")
        return names if item.group == risebench.LOGICAL else (*names, "plausibility")
    if kind == "krisbench":
        return ("consistency", "both", "quality") if "knowledge" in krisbench.required(item.group) else krisbench.METRICS[:3]
    return ("scores",)


def read(kind: str, item: Item, name: str, reply: str) -> Values:
    """The scores of a reply by metric; a metric is None where the reply does not say it."""
    if kind == "imgedit":
        found = replies.imgedit(reply)
        return dict(zip(imgedit.METRICS, found, strict=False)) if found else dict.fromkeys(imgedit.METRICS)
    if kind == "gedit":
        scores = replies.viescore(reply)
        return {name: min(scores) if scores else None}
    if kind == "risebench":
        numbers = replies.risebench(reply)
        score = None if not numbers else risebench.binary(numbers[0]) if item.group == risebench.LOGICAL else numbers[0]
        return {name: score if score in _FIVE else None}
    if kind == "krisbench" and name == "both":
        return dict(zip(("instruction", "knowledge"), replies.krisbench_pair(reply), strict=True))
    return {name: replies.krisbench(reply, name)} if kind == "krisbench" else two_scores(reply)


def scored(kind: str, item: Item, values: Values) -> Scored:
    """An item's scores, with what their aggregation needs."""
    flags = set()
    if kind == "gedit" and item.extra["intersection"]:
        flags.add(gedit.INTERSECTION)
    if kind == "risebench":
        if item.extra["consistency_free"]:
            flags.add(risebench.FREE)
        needed = [name for name in expected(kind, item) if name != "both"]
        if any(values.get(name) is None for name in needed):
            # The official script drops all scores of such an item.
            values = dict.fromkeys(values)
    return Scored(item.id, item.group, values, item.subgroup, frozenset(flags))


def _imgedit(item: Item, result: bytes, prompts: Prompts) -> list[Question]:
    text = prompts.text(item.group, instruct=item.instruction)
    return [Question("scores", text, [Shown(item.sources[0].read()), Shown(result)])]


def _gedit(item: Item, result: bytes, prompts: Prompts) -> list[Question]:
    source = item.sources[0].read()
    edited = of_size(result, source)
    pictures = {"semantics": [Shown(source), Shown(edited)], "quality": [Shown(edited)]}
    return [Question(name, prompts.text(name, instruct=item.instruction), shown) for name, shown in pictures.items()]


def _risebench(item: Item, result: bytes, prompts: Prompts) -> list[Question]:
    right = item.reference_picture
    # In these categories a right answer's picture takes the place of the source.
    shows_right = right is not None and item.group in {"spatial_reasoning", risebench.LOGICAL} and not item.extra["answer"]
    first = Shown(thumbnail(right.read() if right is not None and shows_right else item.sources[0].read(), _RISE_SIDE))
    edited = Shown(thumbnail(result, _RISE_SIDE))
    names, with_first = _rise_texts(item, shows_right=shows_right)
    values = {"instruct": item.instruction, "reference": item.reference}
    pictures = {
        "consistency": [first, edited],
        "reasoning": [first, edited] if with_first else [edited],
        "plausibility": [edited],
    }
    return [Question(name, prompts.text(names[name], **values), pictures[name]) for name in expected("risebench", item)]


def _rise_texts(item: Item, *, shows_right: bool) -> tuple[dict[str, str], bool]:
    """The names of the texts, and whether the question of reasoning shows two pictures."""
    drawn = item.extra["reasoning_img"]
    if item.group == risebench.LOGICAL:
        if item.extra["answer"]:
            return {"consistency": "prompt_logical_cons_ans", "reasoning": "prompt_logical_txt"}, False
        asked = "prompt_logical_img_wo_q" if item.extra["reasoning_wo_ins"] else "prompt_logical_img"
        return {"consistency": "prompt_logical_cons", "reasoning": asked}, True
    if item.group == "spatial_reasoning":
        asked = "prompt_spatial_ref_w_input" if drawn else "prompt_spatial_ref"
        asked = "prompt_spatial_ref_img" if shows_right else asked
        names = {"consistency": "prompt_spatial_cons", "reasoning": asked, "plausibility": "prompt_spatial_qual"}
        return names, shows_right or drawn
    asked = "prompt_reasoning_w_input" if drawn else "prompt_reasoning"
    return {"consistency": "prompt_consist", "reasoning": asked, "plausibility": "prompt_generation"}, drawn


def _krisbench(item: Item, result: bytes, prompts: Prompts) -> list[Question]:
    names, last = _kris_texts(item)
    values = {"instruct": item.instruction, "explanation": item.reference, "N": str(len(item.sources) + 1)}
    found = []
    for name in expected("krisbench", item):
        shown = [Shown(result, "This is the edited image:")] if name == "quality" else _kris_pictures(item, result)
        if name == "instruction":
            shown = [*shown, *last]
        found.append(Question(name, prompts.text(names[name], **values), shown))
    return found


def _kris_texts(item: Item) -> tuple[dict[str, str], list[Shown]]:
    """The names of the texts, and what the question about the instruction shows in addition."""
    consistency, instruction, last = "prompt_consist", "prompt_instruction_following", []
    if item.group in {"temporal_prediction", "multi-element_composition"}:
        kind = "temporal" if item.group == "temporal_prediction" else "multi"
        consistency, instruction = f"prompt_consist_{kind}", f"prompt_instruction_{kind}"
    elif item.group == "viewpoint_change" and item.reference_picture is not None:
        instruction = "prompt_view_instruction_following"
        last = [Shown(item.reference_picture.read(), "This is the ground truth image:")]
    names = {
        "consistency": consistency,
        "instruction": instruction,
        "quality": "prompt_quality",
        "both": "prompt_dual_evaluation",
    }
    return names, last


def _kris_pictures(item: Item, result: bytes) -> list[Shown]:
    if len(item.sources) == 1:
        return [Shown(item.sources[0].read(), "This is the original image:"), Shown(result, "This is the edited image:")]
    shown = [Shown(source.read(), f"Reference Image {number}:") for number, source in enumerate(item.sources, 1)]
    return [*shown, Shown(result, "Predicted Image:")]


def _own(item: Item, result: bytes, prompts: Prompts) -> list[Question]:
    pictures = [Shown(item.sources[0].read()), Shown(result)]
    return [Question("scores", prompts.text("scores", instruct=item.instruction), pictures)]


def two_scores(reply: str) -> Values:
    """Semantic, quality and their geometric mean, of a reply in EditThinker's or VIEScore's form."""
    found = replies.protocol(reply)
    if found is None:
        return dict.fromkeys(plain.METRICS)
    return {"semantic": found[0], "quality": found[1], "overall": (found[0] * found[1]) ** 0.5}


_KINDS: Final[Mapping[str, Callable[[Item, bytes, Prompts], list[Question]]]] = {
    "imgedit": _imgedit,
    "gedit": _gedit,
    "risebench": _risebench,
    "krisbench": _krisbench,
    "own": _own,
}
AGGREGATIONS: Final[Mapping[str, Any]] = {
    "imgedit": imgedit,
    "gedit": gedit,
    "risebench": risebench,
    "krisbench": krisbench,
    "own": plain,
}
"""The module of `evaluation.aggregation` for each kind of dataset."""


def of_size(data: bytes, like: bytes) -> bytes:
    """A picture as PNG in another one's size, as GEdit-Bench's script resizes it; the same bytes where it has that size."""
    with Image.open(io.BytesIO(like)) as other:
        size = other.size
    with Image.open(io.BytesIO(data)) as picture:
        if picture.size == size:
            return data
        out = io.BytesIO()
        picture.convert("RGB").resize(size).save(out, "PNG")
    return out.getvalue()


def thumbnail(data: bytes, side: int) -> bytes:
    """A picture as JPEG, at most so many pixels wide and high."""
    with Image.open(io.BytesIO(data)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "JPEG")
    return out.getvalue()
