"""How logs are written; apart from what writes them, which a launcher of another program need not import."""

from __future__ import annotations

from typing import Literal

LogFormat = Literal["auto", "json", "text"]
"""``auto``: text on a terminal, JSON elsewhere."""
