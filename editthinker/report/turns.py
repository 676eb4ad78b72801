"""Turns and their candidates as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from editthinker.client import Candidate, CandidateRef, Scores, Session, Turn
from editthinker.report.markup import changes, escape, picture
from editthinker.report.pictures import Pictures

_AUTHORS: Final = {
    "caller": "as given",
    "preparer": "rewritten for the editor",
    "thinker": "refined by the thinker",
    "person": "written by a person",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A session and its pictures, as they are rendered."""

    session: Session
    pictures: Pictures

    @property
    def best(self) -> tuple[Turn, Candidate] | None:
        """The turn and the candidate that are the answer."""
        best = self.session.best
        found = None if best is None else self.session.at(best)
        if best is None or found is None:
            return None
        return next(turn for turn in self.session.turns if turn.turn == best.turn), found

    def picture(self, turn: Turn, candidate: Candidate) -> str:
        """The candidate's picture with what its critique points at; empty where there is none of its own."""
        data = None if candidate.unchanged else self.pictures.candidates.get((turn.turn, candidate.candidate))
        alt = f"Turn {turn.turn}, {_label(turn, candidate).lower()}: {turn.instruction}"
        if data is None and (data := self.pictures.previews.get((turn.turn, candidate.candidate))):
            alt += " (unfinished)"
        return "" if data is None else picture(data, alt, candidate.places)


def winning_turn(shown: Shown) -> str:
    """The winning candidate, whose picture is shown elsewhere, and the others of its turn."""
    if shown.best is None:
        return ""
    turn, candidate = shown.best
    others = [each for each in turn.candidates if each is not candidate]
    cards = "\n".join(_card(shown, turn, each) for each in others)
    heading = f"<h3>Turn {turn.turn} <small>the other candidates</small></h3>"
    strip = f'\n<section class="turn others">\n{heading}\n{_strip(others, cards)}\n</section>'
    return f"""\
<section class="turn winner" id="turn-{turn.turn}">
{_heading(turn)}
{_instruction(shown.session, turn)}
{_card(shown, turn, candidate)}
</section>{strip if others else ""}"""


def other_turns(shown: Shown) -> str:
    """The turns that are not the winning one, in their order."""
    winner = shown.best[0] if shown.best else None
    return "\n".join(_turn(shown, turn) for turn in shown.session.turns if turn is not winner)


def caption(turn: Turn, candidate: Candidate) -> str:
    """A picture's name: its turn, its number there if there are several, and its overall score."""
    number = f", candidate {candidate.candidate}" if len(turn.candidates) > 1 else ""
    return f"Turn {turn.turn}{number}" + (f" \u00b7 {candidate.scores.overall:.1f}" if candidate.scores else "")


def _turn(shown: Shown, turn: Turn) -> str:
    cards = "\n".join(_card(shown, turn, candidate) for candidate in turn.candidates)
    return f"""\
<section class="turn" id="turn-{turn.turn}">
{_heading(turn)}
{_instruction(shown.session, turn)}
{_strip(turn.candidates, cards)}
</section>"""


def _strip(candidates: list[Candidate], cards: str) -> str:
    return f'<div class="strip{"" if len(candidates) > 1 else " single"}">\n{cards}\n</div>'


def _heading(turn: Turn) -> str:
    author = _AUTHORS.get(turn.author, turn.author)
    if turn.draft:
        author += " \u00b7 drafts"
    if turn.renders is not None:
        author += f" \u00b7 the draft of turn {turn.renders.turn} in full"
    return f"<h3>Turn {turn.turn} <small>{escape(author)}</small></h3>"


def _instruction(session: Session, turn: Turn) -> str:
    before = next((each for each in session.turns if each.turn == turn.turn - 1), None)
    marked = None if before is None else changes(before.instruction, turn.instruction)
    note = "" if marked is None or before is None else f'\n<p class="facts">Marked: the changes since turn {before.turn}.</p>'
    return f"<blockquote>{marked or escape(turn.instruction)}</blockquote>{note}"


def _label(turn: Turn, candidate: Candidate) -> str:
    return f"Candidate {candidate.candidate}" if len(turn.candidates) > 1 else "Edit"


def _card(shown: Shown, turn: Turn, candidate: Candidate) -> str:
    best = shown.best is not None and shown.best[1] is candidate
    label = _label(turn, candidate)
    figure = shown.picture(turn, candidate)
    if figure and (turn.turn, candidate.candidate) not in shown.pictures.candidates:
        label += ", rejected"
    if figure:
        # The winner's picture is the one next to the source.
        name = escape(caption(turn, candidate))
        figure = "" if best else f'<figure data-name="{name}">{figure}<figcaption>{name}</figcaption></figure>'
    elif not candidate.unchanged:
        figure = '<div class="missing">no picture</div>'
    told = "\n".join([f"<h4>{label}{_badge(shown, turn, candidate)}</h4>", *_told(shown.session, turn, candidate)])
    return f'<article class="card{" best" if best else ""}">\n{figure}\n<div class="told">\n{told}\n</div>\n</article>'


def _badge(shown: Shown, turn: Turn, candidate: Candidate) -> str:
    ref = CandidateRef(turn=turn.turn, candidate=candidate.candidate)
    if ref == shown.session.best:
        return ' <strong class="badge">\u2605 best</strong>'
    places = [number for number, result in enumerate(shown.session.results, 1) if result == ref]
    return f' <strong class="badge">result {places[0]}</strong>' if places else ""


def _told(session: Session, turn: Turn, candidate: Candidate) -> list[str]:
    """What is known of a candidate, except for its picture."""
    parts = [_marks(candidate)]
    if candidate.unchanged:
        parts.append('<p class="error">the source, unchanged</p>')
    if candidate.not_understood:
        phrases = ", ".join(f"\u201c{escape(phrase)}\u201d" for phrase in candidate.not_understood)
        parts.append(f'<p class="error">The editor did not understand {phrases}.</p>')
    if candidate.reasoning:
        parts.append(f'<p class="reasoning">{escape(candidate.reasoning)}</p>')
    if candidate.places:
        words = "".join(f"<li>{escape(place.word) or 'here'}</li>" for place in candidate.places)
        parts.append(f'<ol class="words" aria-label="What the critique points at">{words}</ol>')
    if candidate.refinement_reasoning:
        parts.append(f'<p class="reasoning">{escape(candidate.refinement_reasoning)}</p>')
    if candidate.refined_instruction:
        parts.append(_next(session, turn, candidate.refined_instruction))
    if candidate.error is not None:
        parts.append(f'<p class="error">{escape(candidate.error.message)} ({escape(candidate.error.code)})</p>')
    return [*parts, _facts(candidate)]


def _next(session: Session, turn: Turn, refined: str) -> str:
    """The refined instruction; or the turn that has it, so that nobody reads it twice."""
    following = next((each for each in session.turns if each.turn == turn.turn + 1), None)
    if refined == turn.instruction:
        text = "the same instruction"
    elif following is not None and refined == following.instruction:
        text = f'<a href="#turn-{following.turn}">the instruction of turn {following.turn}</a>'
    else:
        text = escape(refined)
    return f'<p class="next"><span>Next:</span> {text}</p>'


def _marks(candidate: Candidate) -> str:
    if candidate.scores is None and candidate.preview is not None and candidate.preview.scores is not None:
        seen = f"overall {candidate.preview.scores.overall:.1f} for its unfinished picture"
        return f'<p class="facts">{escape(candidate.status)}: {seen}</p>'
    if candidate.scores is None:
        return f'<p class="facts">{escape(candidate.status)}, no scores</p>'
    marks = meters(candidate.scores)
    if not candidate.critiques:
        return marks
    each = ", ".join(f"{critique.overall:.1f}" for critique in candidate.critiques)
    return f'{marks}\n<p class="facts">means of {len(candidate.critiques)} critiques (overall {each})</p>'


def meters(scores: Scores) -> str:
    """The three scores of a picture."""
    rows = "".join(
        f'<div><dt>{name}</dt><dd>{value:.1f}</dd><dd><meter aria-label="{name}, of 10" min="0" max="10" low="5" high="8" '
        f'optimum="10" value="{value:.2f}"></meter></dd></div>'
        for name, value in (("Overall", scores.overall), ("Semantic", scores.semantic), ("Quality", scores.quality))
    )
    return f'<dl class="marks">{rows}</dl>'


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
    joined = escape(" \u00b7 ".join(parts))
    return f'<p class="facts">{joined}</p>' if parts else ""
