"""Renders a session and its pictures as HTML. The same session always gives the same page."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from html import escape as html_escape
from importlib.resources import files
from typing import Final

from editthinker.client import Box, Candidate, CandidateRef, Comparison, Preparation, Session, Turn
from editthinker.client.pictures import sniff
from editthinker.printable import block
from editthinker.report.pictures import Pictures

_AUTHORS: Final = {
    "caller": "as given",
    "preparer": "rewritten for the editor",
    "thinker": "refined by the thinker",
    "person": "written by a person",
}
_REASONS: Final = {
    "satisfied": "The thinker was satisfied",
    "max_turns": "All turns were used",
    "plateau": "More turns brought no improvement",
    "deadline": "The deadline passed",
    "budget": "The budget was used up",
    "accepted": "A person accepted the result",
    "cancelled": "The session was cancelled",
    "failed": "The session failed",
}
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title} &middot; EditThinker</title>
<style>
{style}
.source {{ background-image: url({source}); aspect-ratio: {ratio}; }}
</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">EditThinker session <code>{id}</code></p>
<h1>{title}</h1>
<p class="lead">{lead}</p>
</header>
{hero}
<section aria-label="Totals">
<dl class="totals">
{totals}
</dl>
</section>
<h2>Turns</h2>
{turns}
<footer>{footer}</footer>
</main>
</body>
</html>
"""


def escape(text: str) -> str:
    """A text of a session in HTML; control characters and those that turn the reading order around are written out."""
    return html_escape(block(text))


def render(session: Session, pictures: Pictures) -> str:
    """The report of a session, as one HTML document with the pictures inside."""
    return _PAGE.format(
        title=escape(session.instruction),
        style=files("editthinker.report").joinpath("style.css").read_text(encoding="utf-8"),
        source=_data_url(pictures.source),
        ratio=_ratio(session),
        id=escape(session.id),
        lead=escape(_lead(session)),
        hero=_hero(session, pictures),
        totals="\n".join(_totals(session)),
        turns="\n".join(_turn(session, turn, pictures) for turn in session.turns) or "<p>No turn was started.</p>",
        footer=escape(_footer(session)),
    )


def _lead(session: Session) -> str:
    reason = _REASONS.get(session.finish_reason or "", f"The session is {session.status}")
    if session.error is not None:
        return f"{reason}: {session.error.message} ({session.error.code})"
    if session.best is None:
        return f"{reason}. There is no result."
    text = f"{reason}. The best picture is from turn {session.best.turn}."
    return f"{text} The judge does not prefer it to the unedited picture." if session.preferred is False else text


def _hero(session: Session, pictures: Pictures) -> str:
    figures = [_source_figure("Source")]
    best = session.best
    if best is not None and (data := pictures.candidates.get((best.turn, best.candidate))):
        scores = "" if session.scores is None else f" · overall {session.scores.overall:.1f}"
        figures.append(_figure(data, "Result", f"Result: {session.instruction}", f"turn {best.turn}{scores}"))
    pair = f'<section class="pair" aria-label="Source and result">\n{"".join(figures)}</section>'
    more = [
        _figure(data, f"Picture {number}", f"Picture {number}, a reference", "reference")
        for number, data in enumerate(pictures.references, 2)
    ]
    if pictures.mask is not None:
        alt = "The mask: the picture may change where it is transparent"
        figure = _figure(pictures.mask, "Mask", alt, "the chequered part may change")
        more.append(figure.replace("<figure>", '<figure class="mask">', 1))
    if not more:
        return pair
    return f'{pair}\n<section class="inputs" aria-label="References and mask">\n{"".join(more)}</section>'


def _turn(session: Session, turn: Turn, pictures: Pictures) -> str:
    author = _AUTHORS.get(turn.author, turn.author)
    if turn.draft:
        author += " · drafts"
    if turn.renders is not None:
        author += f" · the draft of turn {turn.renders.turn} in full"
    cards = "\n".join(_card(session, turn, candidate, pictures) for candidate in turn.candidates)
    return f"""\
<section class="turn">
<h3>Turn {turn.turn} <small>{escape(author)}</small></h3>
<blockquote>{escape(turn.instruction)}</blockquote>
<div class="strip">
{_source_figure("Source")}
{cards}
</div>
</section>"""


def _card(session: Session, turn: Turn, candidate: Candidate, pictures: Pictures) -> str:
    best = session.best == CandidateRef(turn=turn.turn, candidate=candidate.candidate)
    label = f"Candidate {candidate.candidate}" if len(turn.candidates) > 1 else "Edit"
    badge = ' <strong class="badge">★ best</strong>' if best else ""
    data = pictures.candidates.get((turn.turn, candidate.candidate))
    alt = f"Turn {turn.turn}, {label.lower()}: {turn.instruction}"
    if data is None and (data := pictures.previews.get((turn.turn, candidate.candidate))):
        label, alt = f"{label}, rejected", f"{alt} (unfinished)"
    if data is not None:
        picture = f'<img src="{_data_url(data)}" alt="{escape(alt)}" loading="lazy">'
        if boxes := "".join(_box(number, place) for number, place in enumerate(candidate.places, 1)):
            picture = f'<div class="places">{picture}{boxes}</div>'
    else:
        picture = '<div class="missing">no picture</div>'
    parts = [
        f'<article class="card{" best" if best else ""}">',
        picture,
        f"<h4>{label}{badge}</h4>",
        _marks(candidate),
    ]
    if candidate.reasoning:
        parts.append(f'<p class="reasoning">{escape(candidate.reasoning)}</p>')
    if candidate.places:
        words = "".join(f"<li>{escape(place.word) or 'here'}</li>" for place in candidate.places)
        parts.append(f'<ol class="words" aria-label="What the critique points at">{words}</ol>')
    if candidate.refined_instruction:
        parts.append(f'<p class="next"><span>Next:</span> {escape(candidate.refined_instruction)}</p>')
    if candidate.error is not None:
        parts.append(f'<p class="error">{escape(candidate.error.message)} ({escape(candidate.error.code)})</p>')
    facts = _facts(candidate)
    if facts:
        parts.append(f'<p class="facts">{escape(facts)}</p>')
    parts.append("</article>")
    return "\n".join(parts)


def _box(number: int, place: Box) -> str:
    """A place over its picture, with its number in the list below."""
    edges = (place.left, place.top, 1000 - place.right, 1000 - place.bottom)
    # Nothing is drawn outside of the picture, even if a server says so.
    left, top, right, bottom = (f"{min(max(edge, 0), 1000) / 10:.1f}%" for edge in edges)
    return f'<span class="place" aria-hidden="true" style="inset: {top} {right} {bottom} {left}"><b>{number}</b></span>'


def _marks(candidate: Candidate) -> str:
    if candidate.scores is None and candidate.preview is not None and candidate.preview.scores is not None:
        seen = f"overall {candidate.preview.scores.overall:.1f} for its unfinished picture"
        return f'<p class="facts">{escape(candidate.status)}: {seen}</p>'
    if candidate.scores is None:
        return f'<p class="facts">{escape(candidate.status)}, no scores</p>'
    scores = candidate.scores
    rows = "".join(
        f'<div><dt>{name}</dt><dd><meter min="0" max="10" low="5" high="8" optimum="10" value="{value:.2f}">'
        f"</meter> {value:.1f}</dd></div>"
        for name, value in (("Semantic", scores.semantic), ("Quality", scores.quality), ("Overall", scores.overall))
    )
    marks = f'<dl class="marks">{rows}</dl>'
    if not candidate.critiques:
        return marks
    each = ", ".join(f"{critique.overall:.1f}" for critique in candidate.critiques)
    return f'{marks}\n<p class="facts">means of {len(candidate.critiques)} critiques (overall {each})</p>'


def _facts(candidate: Candidate) -> str:
    parts = []
    if candidate.image is not None:
        parts.append(f"{candidate.image.width} \u00d7 {candidate.image.height}")
    if candidate.outside_mask is not None:
        parts.append(f"outside the mask {candidate.outside_mask.changed:.1%} changed")
    if candidate.outside_places is not None:
        parts.append(f"outside of what was pointed at {candidate.outside_places.changed:.1%} changed")
    if candidate.seed is not None:
        parts.append(f"seed {candidate.seed}")
    if candidate.editor_seconds is not None:
        parts.append(f"edit {candidate.editor_seconds:.2f} s")
    if candidate.thinker_seconds is not None:
        parts.append(f"critique {candidate.thinker_seconds:.2f} s")
    return " · ".join(parts)


def _totals(session: Session) -> list[str]:
    totals = session.totals
    facts = [("Turns", str(totals.turns)), ("Edits", str(totals.edits))]
    facts.append(("Editing", f"{totals.editor_seconds:.2f} s"))
    facts.append(("Thinking", f"{totals.thinker_seconds:.2f} s"))
    if totals.prompt_tokens or totals.completion_tokens:
        facts.append(("Tokens", f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out"))
    if session.preparation is not None:
        facts.append((f"Rewriting by {session.preparation.preparer}", _preparation(session.preparation)))
    facts += [("Compared", _comparison(each)) for each in session.comparisons]
    if session.created_at is not None and session.finished_at is not None:
        facts.append(("Total time", f"{session.finished_at - session.created_at:.2f} s"))
    if session.revised_prompt and session.revised_prompt != session.instruction:
        facts.append(("Instruction of the result", session.revised_prompt))
    return [f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts]


def _preparation(preparation: Preparation) -> str:
    if preparation.error is not None:
        return f"failed: {preparation.error.message} ({preparation.error.code})"
    return f"{preparation.thinker_seconds:.2f} s" if preparation.instruction else "not done"


def _comparison(comparison: Comparison) -> str:
    first, second = (f"turn {ref.turn}" if ref else "the unedited picture" for ref in (comparison.first, comparison.second))
    if comparison.winner == "tie":
        return f"{first} and {second} are as good"
    return f"{first} over {second}" if comparison.winner == "first" else f"{second} over {first}"


def _footer(session: Session) -> str:
    parts = [f"editor {session.editor}"]
    if session.thinker:
        parts.append(f"thinker {session.thinker}")
    if session.judge and session.judge != session.thinker:
        parts.append(f"judge {session.judge}")
    if session.strategy:
        parts.append(f"strategy {session.strategy}")
    if session.created_at is not None:
        parts.append(datetime.fromtimestamp(session.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return " · ".join(parts)


def _source_figure(caption: str) -> str:
    # The source is embedded once, as the background of a class, and not once per turn.
    return (
        f'<figure><div class="source" role="img" aria-label="The source picture"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _figure(data: bytes, caption: str, alt: str, note: str) -> str:
    return (
        f'<figure><img src="{_data_url(data)}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)} <small>{escape(note)}</small></figcaption></figure>"
    )


def _ratio(session: Session) -> str:
    if session.source is None or not session.source.height:
        return "4 / 3"
    return f"{session.source.width} / {session.source.height}"


def _data_url(data: bytes) -> str:
    # The media type is sniffed from the bytes, because it goes into the page unescaped.
    media_type = sniff(data) or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
