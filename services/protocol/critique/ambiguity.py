"""What may stand around the part of a reply that is read: an introduction, and no other verdict.

Text in a picture can hold a whole reply with the best scores, and a thinker that is not held to a form may repeat it beside
its own verdict. So the part that is read stands on a line of its own, or begins one behind a colon or the end of a sentence;
and what stands around it holds no number (for a checklist, no answer either) but those that were read. Whatever else is
ambiguous: asking once more costs little, and a session that ends as satisfied because of a sign in its picture costs the
edit. Of English only; every pattern is linear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_LABELLED: Final = re.compile(
    r"(semantic|quality)(?:[\s_]{1,4}score)?[\"'*]{0,4}\s{0,4}[:=][\s\"'*]{0,8}(\d{1,2}(?:\.\d{1,6})?)(?:\s{0,2}/\s{0,2}10)?"
    r"(?![\w%/]|\.\d|\s{0,4}(?:-|–|or\b|to\b))",  # noqa: RUF001
    re.IGNORECASE,
)
_NUMBERED: Final = re.compile(r"(?<!\d)(\d{1,2})[^\w\n]{1,8}(yes|no|partly)\b", re.IGNORECASE)
_FORM: Final = re.compile(
    r"\b[01]\s{0,3}(?:to|-|–|\.\.)\s{0,3}(?:10|ten)\b|\byes\s{0,3}[,/]\s{0,3}partly,?\s{0,3}(?:or|/|and)\s{0,3}no\b",  # noqa: RUF001
    re.IGNORECASE,
)
"""How scores and answers are to be written, which is none of them."""
_NUMBER: Final = re.compile(r"\d")
_NUMBER_WORD: Final = re.compile(r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)\b", re.IGNORECASE)
_SCORING: Final = re.compile(r"semantic|quality|scor(?:e|ing)|\brat(?:e|ing)|verdict|\bout\sof\b", re.IGNORECASE)
_ANSWER: Final = re.compile(r"\b(?:yes|no|partly)\b", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>\n]{1,40}>")
_FENCE: Final = re.compile(r"```\w{0,10}\s{0,8}\Z")
_FENCE_END: Final = re.compile(r"\A\s{0,8}```")
_QUOTES: Final = frozenset("\"'”’»")  # noqa: RUF001
_LEADS: Final = (":", ".", "!", "?", "…", "*", ">", "[")


def elsewhere(pieces: Sequence[str], scores: tuple[float, float] | None = None, answers: Mapping[int, str] | None = None) -> bool:
    """Whether what stands around the parts that are read makes them ambiguous.

    Args:
        pieces: the text before the first part, between the parts, and behind the last one.
        scores: those that were read; where a text only repeats them, they are no others.
        answers: those that were read, by number. Only with them, answers count as a verdict at all.
    """
    return quoted(pieces) or any(_verdict(piece, scores, answers) for piece in pieces)


def quoted(pieces: Sequence[str]) -> bool:
    """Whether the part is put into a sentence or into quotation marks."""
    rest = _FENCE_END.sub("", _TAG.sub("", pieces[-1])).partition("\n")[0]
    return not _leads(pieces[0]) or any(mark.isalnum() or mark in _QUOTES for mark in rest)


def _leads(before: str) -> bool:
    """Whether a text may stand before the part."""
    if before.count("{") > before.count("}"):
        return False
    bare = _TAG.sub("", before)
    unfenced = _FENCE.sub("", bare)
    text = unfenced.rstrip()
    own_line = unfenced != bare or "\n" in bare[len(text) :]
    return not text or own_line or text.endswith(_LEADS)


def _verdict(text: str, scores: tuple[float, float] | None, answers: Mapping[int, str] | None) -> bool:
    """Whether a text holds numbers, or answers, other than those that were read."""
    said = dict(zip(("semantic", "quality"), scores, strict=True)) if scores else {}
    left = _LABELLED.sub(lambda found: "" if said.get(found[1].lower()) == float(found[2]) else found[0], text)
    left = _FORM.sub("", left)
    if answers is not None:
        left = _NUMBERED.sub(lambda found: "" if answers.get(int(found[1])) == found[2].lower() else found[0], left)
        if _ANSWER.search(left):
            return True
    return bool(_NUMBER.search(left) or (_SCORING.search(left) and _NUMBER_WORD.search(left)))
