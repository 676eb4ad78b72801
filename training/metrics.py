"""Metrics of a run as JSON lines: appended, so that a resumed run goes on in the same file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from training import whole_files


class MetricsFile:
    """One JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            # What a kill cut short would run into the next line.
            written = path.read_bytes()
            whole = written.rfind(b"\n") + 1
            if whole < len(written):
                os.truncate(path, whole)

    def __call__(self, row: dict[str, Any]) -> None:
        """Append one row; a line is written at once, so that a killed run leaves whole lines."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Every row so far; a last line that a kill cut short is left out."""
        if not self._path.exists():
            return []
        lines = self._path.read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def replace(self, rows: list[dict[str, Any]]) -> None:
        """Keep these rows alone; the file is replaced as a whole."""
        whole_files.write(self._path, "".join(json.dumps(row) + "\n" for row in rows))
