"""The phrase table, read once from ``phrases.toml``."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

TABLE: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8"))


def phrases_of(text: str) -> list[str]:
    """The phrases of a list that is written as one string."""
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]
