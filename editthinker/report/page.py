"""Renders a session and its pictures as HTML. The same session always gives the same page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from editthinker.client import Comparison, Preparation, Session
from editthinker.report.document import asset, document
from editthinker.report.markup import escape, facts, picture
from editthinker.report.pictures import Pictures
from editthinker.report.turns import Shown, caption, other_turns, winning_turn
from editthinker.unchanged import unchanged_sentence

_REASONS: Final = {
    "satisfied": "The thinker was satisfied",
    "unchanged": "Nothing was changed",
    "max_turns": "All turns were used",
    "plateau": "More turns brought no improvement",
    "deadline": "The deadline passed",
    "budget": "The budget was used up",
    "accepted": "A person accepted the result",
    "cancelled": "The session was cancelled",
    "failed": "The session failed",
}
_LONG_TITLE: Final = 90
"""Characters from which an instruction is set smaller as the title."""
_BODY: Final = """\
<header>
<p class="eyebrow">EditThinker session <code>{id}</code></p>
<h1{size}>{title}</h1>
<p class="lead">{lead}</p>
{course}</header>
<div class="hero">
{viewer}
{winner}
</div>
{inputs}{turns}
<section class="totals" aria-label="Totals">
<dl>
{totals}
</dl>
</section>
<footer>{footer}</footer>
"""
_TOOLS: Final = """\
<div class="tools" hidden>
<label class="slide"><span>Source</span>
<input type="range" min="0" max="100" value="50" aria-label="Where the source ends and the result begins, in percent">
<span>Result</span></label>
<div role="group" aria-label="Zoom">
<button type="button" data-zoom="fit" aria-pressed="true">Fit</button>
<button type="button" data-zoom="full" aria-pressed="false" title="One pixel of the picture on one of the page">1:1</button>
<button type="button" data-zoom="out" aria-label="Zoom out">\u2212</button>
<output aria-live="off">100 %</output>
<button type="button" data-zoom="in" aria-label="Zoom in">+</button>
</div>
<label class="choice">Picture <select></select></label>
<label class="marked"><input type="checkbox" checked> Boxes</label>
</div>
"""


def render(session: Session, pictures: Pictures) -> str:
    """The report of a session, as one HTML document with the pictures inside."""
    shown = Shown(session, pictures)
    turns = other_turns(shown)
    heading = "" if shown.best and not turns else f"<h2>{'The other turns' if shown.best else 'Turns'}</h2>\n"
    title = escape(session.instruction)
    body = _BODY.format(
        title=title,
        size=' class="long"' if len(session.instruction) > _LONG_TITLE else "",
        id=escape(session.id),
        lead=escape(_lead(session)),
        course=_course(session),
        viewer=_viewer(shown),
        winner=winning_turn(shown),
        inputs=_inputs(pictures),
        turns=heading + (turns or ("" if shown.best else "<p>No turn was started.</p>")),
        totals=facts(_totals(shown)),
        footer=escape(_footer(session)),
    )
    return document(f"{title} &middot; EditThinker", body, asset("style.css"), asset("viewer.js"))


def _lead(session: Session) -> str:
    reason = _REASONS.get(session.finish_reason or "", f"The session is {session.status}")
    if session.error is not None:
        return f"{reason}: {session.error.message} ({session.error.code})"
    if session.best is None:
        return f"{reason}. There is no result."
    if session.unchanged:
        return unchanged_sentence(session)
    text = f"{reason}. The best picture is from turn {session.best.turn}."
    return f"{text} The judge does not prefer it to the unedited picture." if session.preferred is False else text


def _course(session: Session) -> str:
    """The overall score of each turn's best candidate, as links to the turns."""
    if len(session.turns) <= 1:
        return ""
    steps = []
    for turn in session.turns:
        scores = [candidate.scores.overall for candidate in turn.candidates if candidate.scores]
        won = session.best is not None and session.best.turn == turn.turn
        score = f" <b>{max(scores):.1f}</b>" if scores else ""
        mark = ' class="best">\u2605 ' if won else ">"
        steps.append(f'<li><a href="#turn-{turn.turn}"{mark}Turn {turn.turn}{score}</a></li>')
    return f'<nav aria-label="Turns and their overall scores"><ol class="course">{"".join(steps)}</ol></nav>\n'


def _viewer(shown: Shown) -> str:
    """The source and the result next to each other; the script lays them over each other."""
    result = shown.picture(*shown.best) if shown.best else ""
    name = escape(caption(*shown.best)) if shown.best else ""
    note = " <small>and answer: nothing was changed</small>" if shown.session.unchanged else ""
    figures = [f'<figure class="before">{picture(shown.pictures.source, "The source picture")}']
    figures.append(f"<figcaption>Source{note}</figcaption></figure>")
    if result:
        figures.append(f'\n<figure class="after" data-name="{name}">{result}')
        figures.append(f"<figcaption>Result <small>{name}</small></figcaption></figure>")
    stage = f'<div class="stage">\n<div class="canvas">\n{"".join(figures)}\n</div>\n</div>'
    return f'<section class="viewer" aria-label="Source and result">\n<div class="frame">\n{stage}\n</div>\n{_TOOLS}</section>'


def _inputs(pictures: Pictures) -> str:
    """References and mask."""
    more = [
        _input(data, f"Picture {number}", f"Picture {number}, a reference", "reference")
        for number, data in enumerate(pictures.references, 2)
    ]
    if pictures.mask is not None:
        alt = "The mask: the picture may change where it is transparent"
        more.append(_input(pictures.mask, "Mask", alt, "the chequered part may change"))
    if not more:
        return ""
    return f'<section class="inputs" aria-label="References and mask">\n{"".join(more)}</section>\n'


def _input(data: bytes, name: str, alt: str, note: str) -> str:
    return f"<figure>{picture(data, alt)}<figcaption>{name} <small>{note}</small></figcaption></figure>"


def _totals(shown: Shown) -> list[tuple[str, str]]:
    session, totals = shown.session, shown.session.totals
    pairs = [("Turns", str(totals.turns)), ("Edits", str(totals.edits))]
    pairs.append(("Editing", f"{totals.editor_seconds:.2f} s"))
    pairs.append(("Thinking", f"{totals.thinker_seconds:.2f} s"))
    if totals.prompt_tokens or totals.completion_tokens:
        pairs.append(("Tokens", f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out"))
    if session.preparation is not None:
        pairs.append((f"Rewriting by {session.preparation.preparer}", _preparation(session.preparation)))
    pairs += [("Compared", _comparison(each)) for each in session.comparisons]
    if session.created_at is not None and session.finished_at is not None:
        pairs.append(("Total time", f"{session.finished_at - session.created_at:.2f} s"))
    told = {session.instruction, shown.best[0].instruction if shown.best else ""}
    if session.revised_prompt and session.revised_prompt not in told:
        pairs.append(("Instruction of the result", session.revised_prompt))
    if shown.pictures.left_out:
        pairs.append(("Pictures left out for their size", str(shown.pictures.left_out)))
    return pairs


def _preparation(preparation: Preparation) -> str:
    if preparation.error is not None:
        return f"failed: {preparation.error.message} ({preparation.error.code})"
    return f"{preparation.thinker_seconds:.2f} s" if preparation.instruction else "not done"


def _comparison(comparison: Comparison) -> str:
    first, second = (f"turn {ref.turn}" if ref else "the unedited picture" for ref in (comparison.first, comparison.second))
    if comparison.winner == "tie":
        said = f"{first} and {second} are as good"
    else:
        said = f"{first} over {second}" if comparison.winner == "first" else f"{second} over {first}"
    return f"{said}: {comparison.reasoning}" if comparison.reasoning else said


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
    return " \u00b7 ".join(parts)
