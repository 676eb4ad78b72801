"""This process's environment: the one place of the package that reads it."""

from __future__ import annotations

import os


def inherited() -> dict[str, str]:
    """A copy of the environment, as services inherit it and as it names places."""
    return dict(os.environ)
