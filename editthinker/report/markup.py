"""Pieces of HTML with texts and pictures of strangers in them."""

from __future__ import annotations

import base64
import re
from difflib import SequenceMatcher
from html import escape as html_escape
from typing import Final

from editthinker.client import Box
from editthinker.client.pictures import sniff
from editthinker.printable import block

_MOST_WORDS: Final = 2000
"""Of texts that are compared: the time grows with the square."""
_ALIKE: Final = 0.4
"""Share of common words from which marks help; below, the text is another one."""


def escape(text: str) -> str:
    """A text of a session in HTML; control characters and those that turn the reading order around are written out."""
    return html_escape(block(text))


def changes(before: str, after: str) -> str | None:
    """The second text with what it has more as ``ins`` and what it lacks as ``del``, word by word.

    None where they are equal, have little in common, or are long.
    """
    old, new = (re.findall(r"\S+\s*", text) for text in (before, after))
    if before == after or len(old) + len(new) > _MOST_WORDS:
        return None
    matcher = SequenceMatcher(None, [word.rstrip() for word in old], [word.rstrip() for word in new], autojunk=False)
    if matcher.ratio() < _ALIKE:
        return None
    marked = []
    for what, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        added = "".join(new[new_start:new_end])
        if what == "equal":
            marked.append(escape(added))
            continue
        if removed := " ".join(word.rstrip() for word in old[old_start:old_end]):
            marked.append(f"<del>{escape(removed)}</del> ")
        if added:
            words = added.rstrip()
            marked.append(f"<ins>{escape(words)}</ins>{escape(added[len(words) :])}")
    return "".join(marked).rstrip()


def picture(data: bytes, alt: str, places: list[Box] | None = None) -> str:
    """An encoded picture with boxes over it."""
    # The media type is sniffed from the bytes, because it goes into the page unescaped.
    media_type = sniff(data) or "application/octet-stream"
    url = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<div class="sheet"><img src="{url}" alt="{escape(alt)}">{_boxes(places or [])}</div>'


def _boxes(places: list[Box]) -> str:
    """Places over their picture, with their numbers in the list of words."""
    if not places:
        return ""
    shapes = []
    for number, place in enumerate(places, 1):
        # Nothing is drawn outside of the picture, even if a server says so.
        left, top, right, bottom = (min(max(edge, 0), 1000) / 10 for edge in (place.left, place.top, place.right, place.bottom))
        at = f'x="{left:.1f}%" y="{top:.1f}%"'
        size = f'width="{max(right - left, 0):.1f}%" height="{max(bottom - top, 0):.1f}%"'
        shapes.append(f'<rect {at} {size}/><text {at} dx="6" dy="20">{number}</text>')
    return f'<svg class="boxes" aria-hidden="true">{"".join(shapes)}</svg>'


def facts(pairs: list[tuple[str, str]]) -> str:
    """Names and values as rows of a ``dl``."""
    return "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
