"""Plain tables on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a head and rows, each column as wide as its widest cell."""
    lines = [tuple(head), *(tuple(_printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _printable(cell: str) -> str:
    """Escape control characters, and what standard output cannot encode: older versions accepted any name."""
    plain = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in cell)
    encoding = sys.stdout.encoding or "utf-8"
    return plain.encode(encoding, "backslashreplace").decode(encoding)
