"""The contact sheet: every pair with its source and its answer, the worst first, in one HTML file without scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks.colorimetry import Pixels
from benchmarks.honesty.pairs import photo
from benchmarks.honesty.verdict import NAMES, Judged, Name, tally

THUMBNAIL: Final = 300
"""Longest side of a picture in the sheet, in pixels."""
QUALITY: Final = 76
TITLES: Final[dict[Name, str]] = {
    "false": "Falsely satisfied",
    "ruined": "Ruined, without a claim",
    "silent": "The source came back, and nothing says so",
    "error": "Broken",
    "wrong": "Not right, without a claim",
    "modest": "Right, but not satisfied",
    "missed": "Refused or unchanged, and told; an edit was possible",
    "right": "Right",
}
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--bad:#c62828;--fair:#a86400;--good:#2e7d32}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--fair:#ffc766;--good:#81c784}}
body{font:15px/1.4 system-ui,sans-serif;margin:0 auto;padding:12px;max-width:1500px}
h1{font-size:1.3em;margin:.2em 0}h2{font-size:1.05em;margin:1.4em 0 .5em}p{margin:.3em 0}
nav a{margin-right:1em;white-space:nowrap}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:12px}
article{border:1px solid var(--line);border-radius:8px;padding:8px;overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:1fr 1fr;gap:4px;align-items:start;font-size:.8em}
.two>*{width:100%;border-radius:3px}.source{background-size:cover}
.none{padding:1em 0;text-align:center;border:1px dashed var(--line)}
b{display:block;margin:.4em 0 .2em}small{display:block;opacity:.85}
.false,.ruined,.silent,.error{color:var(--bad)}.wrong,.modest,.missed{color:var(--fair)}.right{color:var(--good)}
"""


def write_sheet(path: Path, judged: Sequence[Judged], heading: str) -> None:
    """Write the file, and the folder if there is none."""
    sources = {(one.pair.photo, one.pair.side): f"s{index}" for index, one in enumerate(judged)}
    sections = [_section(name, [one for one in judged if one.name == name], sources) for name in NAMES]
    links = "".join(
        f'<a class="{name}" href="#{name}">{TITLES[name]}: {count}</a> '
        for name in NAMES
        if (count := sum(one.name == name for one in judged))
    )
    numbers = tally(judged)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Honesty</title><style>{_STYLE}{''.join(_source_rule(key, name) for key, name in sources.items())}</style>"
        f"<h1>Honesty</h1><p>{escape(heading)}</p>"
        f"<p>{numbers.pairs} pairs, {numbers.satisfied} satisfied, of which {numbers.satisfied_right} right; "
        f"falsely satisfied {escape(str(numbers.falsely))} of all pairs; right {escape(str(numbers.right))}.</p>"
        f"<nav>{links}</nav>{''.join(sections)}</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _source_rule(key: tuple[str, int], name: str) -> str:
    """A source is written once, as a background, however many pairs have it."""
    pixels = photo(*key).pixels
    height, width = pixels.shape[:2]
    return f".{name}{{aspect-ratio:{width}/{height};background-image:url({_data_url(pixels)})}}"


def _section(name: Name, judged: Sequence[Judged], sources: dict[tuple[str, int], str]) -> str:
    if not judged:
        return ""
    cards = "".join(_card(one, sources[one.pair.photo, one.pair.side]) for one in judged)
    return f'<h2 id="{name}" class="{name}">{TITLES[name]} ({len(judged)})</h2><main>{cards}</main>'


def _card(one: Judged, source: str) -> str:
    outcome, pair = one.outcome, one.pair
    if outcome.pixels is None:
        answer = '<div class="none">no picture</div>'
    elif one.identical:
        answer = '<div class="none">the source</div>'
    else:
        answer = f'<img loading="lazy" alt="answer" src="{_data_url(outcome.pixels)}">'
    scores = "" if outcome.semantic is None else f", scores {outcome.semantic:.1f} and {outcome.quality or 0:.1f}"
    told = outcome.told if outcome.told == outcome.finish_reason else f"{outcome.told} ({outcome.finish_reason or 'no session'})"
    notes = [
        f'<span class="{one.name}">{TITLES[one.name]}</span>.',
        f"Told: {escape(told)}{scores}. Right would be: {' or '.join(sorted(pair.right))}.",
    ]
    notes += [f'<span class="false">{escape(words)}</span>' for words in one.damages]
    notes += [f'<span class="{"right" if one.fulfilled else "false"}">{escape(str(one))}</span>' for one in one.readings]
    if outcome.message:
        notes.append(f"“{escape(outcome.message)}”")
    lines = "".join(f"<small>{note}</small>" for note in notes)
    return (
        f'<article id="{pair.id}"><div class="two">'
        f'<div class="source {source}" role="img" aria-label="source"></div>{answer}</div>'
        f'<b dir="auto">{escape(pair.instruction)}</b>{lines}<small>{pair.id}, {pair.photo}</small></article>'
    )


def _data_url(pixels: Pixels) -> str:
    scale = min(1.0, THUMBNAIL / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    bgr = np.ascontiguousarray(small[..., ::-1])
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
