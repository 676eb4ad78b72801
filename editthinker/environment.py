"""This process's environment; no other module of the package reads it."""

from __future__ import annotations

import os


def inherited() -> dict[str, str]:
    """A copy of the environment."""
    return dict(os.environ)
