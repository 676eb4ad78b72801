"""The log format setting, in its own module so that the vLLM launcher does not import structlog."""

from __future__ import annotations

from typing import Literal

LogFormat = Literal["auto", "json", "text"]
"""``auto``: text on a terminal, JSON elsewhere."""
