"""Instructions in words: those of training, and held-out paraphrases."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from training.miniature.photographs import Split

_FILES: Final[dict[Split, str]] = {"train": "phrases.toml", "held_out": "paraphrases.toml"}
_DRESSED: Final = 0.35  # share of training instructions that get words around them


@cache
def table(split: Split) -> Mapping[str, Any]:
    """The file of a split: `intents` and `looks` by name, `orders` by operation and direction."""
    return tomllib.loads(files("training.miniature").joinpath(_FILES[split]).read_text("utf-8"))


def instruction(split: Split, group: str, name: str, rng: np.random.Generator) -> str:
    """One instruction; `group` is `intents` or `looks`."""
    return _dressed(split, str(rng.choice(table(split)[group][name])), rng)


def order(split: Split, operation: str, amount: int, rng: np.random.Generator) -> str:
    """An explicit order for a signed amount in percent."""
    forms = table(split)["orders"][operation]["up" if amount > 0 else "down"]
    return _dressed(split, str(rng.choice(forms)).format(amount=abs(amount)), rng)


def phrases(split: Split) -> list[str]:
    """Every phrase of a split, as in its file."""
    read = table(split)
    named = [text for group in ("intents", "looks") for texts in read[group].values() for text in texts]
    return named + [text for forms in read["orders"].values() for texts in forms.values() for text in texts]


def _dressed(split: Split, text: str, rng: np.random.Generator) -> str:
    if split == "held_out" or rng.random() > _DRESSED:
        return text
    around = table(split)["around"]
    if rng.random() < 0.5:  # noqa: PLR2004 - before or after
        return f"{rng.choice(around['before'])}{text}"
    return f"{text}{rng.choice(around['after'])}"
