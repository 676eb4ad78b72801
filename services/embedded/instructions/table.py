"""The phrase table, read once from ``phrases.toml``."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

TABLE: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8"))


def phrases_of(text: str) -> list[str]:
    """The phrases of a list that is written as one string."""
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]


def replacements_of(text: str) -> dict[str, str]:
    """What stands for each phrase in a list of ``phrase=replacement``."""
    return {phrase.strip(): other.strip() for phrase, _, other in (entry.partition("=") for entry in phrases_of(text))}


SPELLING = replacements_of(TABLE["spelling"]["words"])
