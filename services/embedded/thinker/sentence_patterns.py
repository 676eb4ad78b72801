"""Patterns of operations that are sentences rather than sliders: flip, crop, text, backgrounds, recolouring.

Each pattern matches one clause whose quoted strings were replaced by marks. Every quantifier is bounded, so matching is
linear in the length of the clause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from services.embedded.thinker.operations import COLOURS, MONOCHROME, Op

_COLOUR = (
    r"(?P<c>#[0-9a-f]{6}|(?:(?:light|dark|bright|deep|pale|pure|plain|solid)\s)?(?:"
    + "|".join(sorted((name.replace(" ", r"\s?") for name in COLOURS), key=len, reverse=True))
    + r"))\b"
)
_AMOUNT = r"(?:(?P<n>\d{1,3}(?:\.\d{1,4})?)\s?%)"
_THING = r"(?:the\s|her\s|his\s|their\s|its\s|my\s)?(?P<r>[\w' -]{1,40}?)"

Found = Callable[[re.Match[str], list[str]], Op]


def _amount(match: re.Match[str]) -> float | None:
    number = match.groupdict().get("n")
    return None if number is None else min(100.0, float(number))


def _plain(name: str, detail: str = "") -> Found:
    def found(match: re.Match[str], _: list[str]) -> Op:
        groups = match.groupdict()
        return Op(
            name=name,
            amount=_amount(match),
            region=(groups.get("r") or "").strip(),
            colour=_colour(groups.get("c")),
            detail=(groups.get("d") or detail).strip(),
        )

    return found


def _quoted(match: re.Match[str], quotes: list[str]) -> Op:
    quote = quotes[int(match.group("q"))] if match.group("q") else f'"{match.group("bare")}"'
    region = match.groupdict().get("region") or ""
    return Op(name="text", colour=_colour(match.groupdict().get("c")), detail=quote, region=region)


def _rotate(match: re.Match[str], _: list[str]) -> Op:
    degrees = float(match.group("n"))
    back = "counter" in match.group(0) or "anti" in match.group(0) or "left" in match.group(0)
    return Op(name="rotate", detail=f"{-degrees if back else degrees:g}")


def _sided(match: re.Match[str], _: list[str]) -> Op:
    up = match.group("v") in {"brighten", "lighten"}
    region = match.group("r").replace("center", "centre")
    region = "corners" if region == "edges" else region
    if region == "corners":
        return Op(name="vignette", sign=-1 if up else 1, amount=_amount(match))
    return Op(name="exposure", sign=1 if up else -1, amount=_amount(match), region=region)


def _tinted(match: re.Match[str], _: list[str]) -> Op:
    return Op(name=f"tint {match.group('z')}", amount=_amount(match), colour=_colour(match.group("c")))


def _shift(match: re.Match[str], _: list[str]) -> Op:
    sign = 1 if match.group("w") in {"magenta", "pink", "purple"} else -1
    return Op(name="tint", sign=sign, amount=_amount(match))


def _colour(word: str | None) -> str:
    """One of the known colour words, without "light", "dark" and the like."""
    if not word:
        return ""
    word = re.sub(r"^(?:light|dark|bright|deep|pale|pure|plain|solid)\s", "", word)
    if word in COLOURS or word.startswith("#"):
        return word
    return next((name for name in COLOURS if name.replace(" ", "") == word.replace(" ", "")), word)


_PATTERNS: tuple[tuple[re.Pattern[str], Found], ...] = tuple(
    (re.compile(pattern), found)
    for pattern, found in (
        (
            r"\b(?:add|write|put|place|print|overlay|insert)\b[\w\s]{0,30}?(?:\x01(?P<q>\d+)|\btext\s(?P<bare>\w{1,40}))"
            r"(?:[\w\s]{0,40}?\b(?P<region>top|bottom|centre|middle|left|right|corner)\b)?"
            r"(?:[\w\s]{0,30}?\bin\s(?:bold\s|large\s|big\s|small\s)?" + _COLOUR + r")?[\w\s%]{0,40}",
            _quoted,
        ),
        (
            r"\b(?:replace|swap|change|make|turn|set|put)\s(?:out\s)?(?:the\s|its\s)?(?:background|backdrop)\b"
            r"(?:\s(?:with|to|by|into))?\s(?:a\s|an\s)?(?:plain\s|pure\s|solid\s|clean\s|simple\s)*" + _COLOUR + r"[\w\s]{0,20}",
            _plain("background"),
        ),
        (
            r"\breplace\s(?:the\s)?(?:background|backdrop)\swith\s(?:a\s)?gradient\sfrom\s(?P<c>\w{1,20})\sto\s(?P<d>\w{1,20})",
            _plain("background"),
        ),
        (
            r"\b(?:shift|rotate)\sthe\shues?\s(?:of\sthe\s(?P<r>\w{1,20})\s)?by\s(?P<d>-?\d{1,3}(?:\.\d)?)\s?(?:degrees?|°)",
            _plain("hue"),
        ),
        (r"\binvert\s(?:the\s)?(?:colours?|image|picture|photo)\b", _plain("invert")),
        (
            r"\bon\s(?:a\s)?(?:plain\s|pure\s|clean\s|simple\s)*(?P<c>white|black|grey)(?:\s(?:background|backdrop))\b",
            _plain("background"),
        ),
        (r"\b(?:remove|cut out|erase|delete)\s(?:the\s)?background\b", _plain("background")),
        (
            r"\b(?:blur|soften|defocus)\s(?:out\s)?(?:the\s)?(?:background|backdrop)\b(?:\s(?:by|of)\s" + _AMOUNT + r")?"
            r"|\badd\s(?:a\s)?background\sblur\b(?:\s(?:by|of)\s(?:\d{1,3})\s?%)?",
            _plain("background blur"),
        ),
        (
            r"\b(?:(?:keep|leave|make)\s)?only\s"
            + _THING
            + r"\s(?:in|with|has|have|keeps?|to have)\s(?:its\s|their\s)?colours?\b"
            r"|\b(?:make|keep)\s(?:the\s)?(?P<r2>[\w' -]{1,40}?)\s(?:the\s|as\sthe\s)?only\s"
            r"(?:splash\sof\s|thing\sin\s|part\sin\s)?colours?\b",
            lambda m, _: Op("selective", region=_thing(m)),
        ),
        (
            rf"\b(?:everything|all|the rest|the image|it)?\s?(?:to\s|into\s)?{MONOCHROME}\s(?:except|but|apart from|other than)"
            r"\s(?:for\s)?" + _THING + r"\s*$",
            lambda m, _: Op("selective", region=_thing(m)),
        ),
        (
            r"\b(?:selective colour|colour splash|colour pop)\b(?:\s(?:on|of|for)\s" + _THING + r"\s*$)?",
            lambda m, _: Op("selective", region=_thing(m) or "the subject"),
        ),
        (
            r"\b(?:change|make|turn|recolour|paint|dye)\s(?:the\s)?(?:colours?\s(?:of\s))"
            + _THING
            + r"(?:\s(?:to|into))?\s"
            + _COLOUR
            + r"[\w\s]{0,10}",
            _plain("recolour"),
        ),
        (
            r"\b(?:recolour|paint|dye|turn|change|make)\s(?:the\s|her\s|his\s)(?P<r>(?!image|photo|picture|scene|whole|background|blacks|shadows)"
            r"[\w' -]{1,40}?)\s(?:to\s|into\s)?(?:a\s)?" + _COLOUR + r"(?:\sinstead)?$",
            _plain("recolour"),
        ),
        (r"\bcrop\b[\w\s]{0,20}?\b(?P<d>square|\d{1,2}\s?:\s?\d{1,2})\b", _plain("crop")),
        (r"\bcrop\b(?:[\w\s]{0,30}?" + _AMOUNT + r")?[\w\s]{0,20}", _plain("crop")),
        (r"\brotate\b[\w\s]{0,30}?(?P<n>-?\d{1,3}(?:\.\d{1,3})?)\s?(?:degrees?|°)[\w\s-]{0,20}", _rotate),
        (
            r"\badd\s(?:a\s|an\s)?(?:thin\s|thick\s|wide\s)?(?:" + _COLOUR + r"\s)?(?:border|frame)\b(?:\sof\s" + _AMOUNT + r")?",
            _plain("border"),
        ),
        (
            r"\b(?P<v>brighten|lighten|darken)\s(?:the\s)?(?P<r>top|bottom|left|right|centre|corners|edges|background|subject|sky)\b"
            r"(?:\sof\s(?:the\s)?(?:image|picture|photo|frame))?(?:\sby\s" + _AMOUNT + r")?",
            _sided,
        ),
        (
            r"\b(?:tint|tone|colour|make)\s(?:the\s)?(?P<z>shadows|highlights)\s(?:more\s)?(?:a\s)?"
            + _COLOUR
            + r"(?:\sby\s"
            + _AMOUNT
            + r")?",
            _tinted,
        ),
        (
            r"\badd\s(?:a\s|an\s)?(?:slight\s|subtle\s)?"
            + _COLOUR
            + r"\s(?:tint|cast|tone)(?:\sof\s"
            + _AMOUNT
            + r")?\sto\sthe\s(?P<z>shadows|highlights)",
            _tinted,
        ),
        (r"\bshift\s(?:the\s)?tint\s(?:towards?\s|to\s)(?P<w>magenta|green|pink|purple)(?:\sby\s" + _AMOUNT + r")?", _shift),
        (
            r"\b(?:add|apply|give it)\s(?:a\s|an\s)?(?:slight\s|subtle\s)?"
            + _COLOUR
            + r"\s(?:tint|cast|overlay|wash|colour overlay)(?:\sof\s"
            + _AMOUNT
            + r")?",
            _plain("overlay"),
        ),
    )
)


def _thing(match: re.Match[str]) -> str:
    groups = match.groupdict()
    thing = (groups.get("r") or groups.get("r2") or "").strip()
    return f"the {thing}" if thing and not thing.startswith("the ") else thing


def match_patterns(clause: str, quotes: list[str]) -> tuple[list[Op], str]:
    """The operations that a clause matches, and the rest of its text."""
    found = list(_search(clause, quotes))
    remaining = clause
    for _, span in found:
        remaining = remaining.replace(span, " , ", 1)
    return [op for op, _ in found], remaining.replace(" , ", " ")


def _search(clause: str, quotes: list[str]) -> Iterator[tuple[Op, str]]:
    text = clause
    for pattern, found in _PATTERNS:
        match = pattern.search(text)
        if match and match.group(0).strip():
            yield found(match, quotes), match.group(0)
            text = text.replace(match.group(0), " ", 1)
