"""Texts of strangers on a terminal or a page: what could steal the cursor, the clipboard or the reading order is escaped.

Escaped are all control characters (C0, DEL, C1: ESC ``]52`` writes to the clipboard, U+009B begins a sequence too), line and
paragraph separators, and the controls of bidirectional text, with which a text can show as another one.
"""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
)
_ESCAPES: Final = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}  # noqa: PLR2004
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x20}  # noqa: PLR2004
_LINE_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _CONTROLS}
_BLOCK_ESCAPES: Final = {code: escape for code, escape in _ESCAPES.items() if code not in {0x09, 0x0A}}


def one_line(text: str) -> str:
    """The text on one line, without repeated blanks."""
    return " ".join(text.split()).translate(_ESCAPES)


def block(text: str) -> str:
    """The text with its line ends and tabs."""
    return text.translate(_BLOCK_ESCAPES)


def json_text(text: str) -> str:
    """JSON, still the same value: its strings hold these characters as JSON's escapes.

    Line ends between its values stay; in its strings JSON has none.
    """
    return text.translate(_JSON_ESCAPES)


def json_line(line: bytes) -> bytes:
    """A line of JSON from a server, as `json_text`; a server's control characters outside of strings are escaped too."""
    return line.decode("utf-8", "replace").translate(_LINE_ESCAPES).encode()
