"""Files that a kill leaves as they were or as they should be, never half."""

from __future__ import annotations

from pathlib import Path


def write(path: Path, text: str) -> None:
    """Replace a file as a whole; its folder is made if it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)
