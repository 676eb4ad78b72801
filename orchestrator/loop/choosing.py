"""Which candidate is the answer, which one the next turn refines, and what to ask the judge again before that is settled.

A judge's scores are noisy: asked again about the same picture, it gives others. The best of several noisy scores is more often
lucky than good. So a session that knows its judge's noise asks again where the noise could change the choice, and nowhere else:
a judge without noise is asked once. Sessions without `choosing` trust single scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from orchestrator.loop.actions import CompareJob, RefineJob, VerifyJob
from orchestrator.loop.events import Author, CandidateRef, Compared
from orchestrator.loop.preparing import is_refused, opening
from orchestrator.loop.session import Candidate, Scores, Session, Turn
from orchestrator.loop.spending import log_is_full

_CLOSE: Final = 1.75
"""Two candidates are about as good while their overall scores differ by at most so many standard errors (decision 0163)."""

_MEASURED: Final = 4.0
"""Repeated scores that measure a judge: those of two further critiques."""
_BEFORE_A_PAIR: Final = 3
"""Critiques of each of the two best before a judge that can compares them side by side: fewer pick the wrong two."""
_REFINING: Final = frozenset({"think", "think_best_of_n", "adaptive"})
"""Strategies whose next turn has another instruction."""
_SILENT: Final = 0.2
"""Noise below it counts as none: judges that score in whole or half points do not show less."""

# --- the order of candidates -----------------------------------------------------------------------------------------


def meets(session: Session, candidate: Candidate) -> bool:
    """Whether both scores reach their thresholds. An unscored candidate never does."""
    limits, scores = session.created.limits, candidate.scores
    return bool(scores and scores.semantic >= limits.semantic_threshold and scores.quality >= limits.quality_threshold)


def lack(session: Session, candidate: Candidate) -> float:
    """Points of 10 by which the worse of a candidate's scores is below its threshold."""
    limits, scores = session.created.limits, candidate.scores
    assert scores is not None
    return max(limits.semantic_threshold - scores.semantic, limits.quality_threshold - scores.quality)


def rank(session: Session, candidate: Candidate | None) -> tuple[bool, float]:
    """A key that orders candidates; None and unscored ones come last."""
    if candidate is None or candidate.scores is None:
        return False, -1.0
    return meets(session, candidate), candidate.scores.overall


def best(session: Session) -> CandidateRef | None:
    """The best candidate of all turns: one that meets the thresholds before one that does not, then by overall score, then the
    earlier one. Without any score, the first image, which the caller's own instruction made.
    """
    ranked = ranking(session)
    return ranked[0].ref if ranked else None


def ranking(session: Session) -> list[Candidate]:
    """Every candidate with an image, best first, and drafts after all others."""
    made = [candidate for candidate in session.candidates if candidate.image]
    drafts = [candidate for candidate in made if candidate.draft]
    return [*ranked(session, (each for each in made if not each.draft)), *ranked(session, drafts)]


def contenders(session: Session) -> list[Candidate]:
    """The candidates with an image between which is chosen now: in a turn of drafts, those that no turn renders; in any other
    turn, those in full. A draft and its render are two pictures, and only the render can be the answer.
    """
    drafting = session.turn is not None and session.turn.draft
    made = (candidate for candidate in session.candidates if candidate.image and candidate.draft == drafting)
    return [candidate for candidate in made if session.render_of(candidate.ref) is None]


def ranked(session: Session, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates, best first. Where the judge compared the first two, the winner leads, or the earlier one."""
    ranked = sorted(candidates, key=lambda candidate: rank(session, candidate), reverse=True)
    verdict = _verdict(session, *_in_order(*ranked[:2])) if len(ranked) > 1 else None
    if verdict is None:
        return ranked
    leader = verdict.second if verdict.winner == "second" else verdict.first
    return sorted(ranked[:2], key=lambda candidate: candidate.ref != leader) + ranked[2:]


def preferred(session: Session, answer: CandidateRef | None) -> bool | None:
    """Whether the judge prefers this candidate to the unedited source, which a tie keeps; None where it was not asked."""
    verdict = _verdict(session, answer, None) if answer else None
    return verdict.winner == "first" if verdict else None


# --- doubts ------------------------------------------------------------------------------------------------------------


def noise(session: Session) -> float:
    """The standard deviation of one score, in points of 10: what was known of the judge, and the session's repeated scores."""
    squares, weight = _evidence(session)
    measured = math.sqrt(squares / weight) if weight else 0.0
    return measured if measured >= _SILENT else 0.0


def is_measured(session: Session) -> bool:
    """Whether enough scores were repeated to tell a judge with noise from one without."""
    return _evidence(session)[1] >= _MEASURED


def _evidence(session: Session) -> tuple[float, float]:
    """Squared deviations of repeated scores, and how many there were; both 0 without `choosing`."""
    choosing = session.created.choosing
    if choosing is None:
        return 0.0, 0.0
    repeated = [spread(candidate.critiques) for candidate in session.candidates if len(candidate.critiques) > 1]
    squares = choosing.weight * choosing.noise**2 + math.fsum(more for more, _ in repeated)
    return squares, choosing.weight + sum(more for _, more in repeated)


def spread(critiques: Sequence[Scores]) -> tuple[float, int]:
    """The squared deviations of repeated scores from their means, and how many of them are free (0 without repeats)."""
    squares = 0.0
    for values in ([each.semantic for each in critiques], [each.quality for each in critiques]) if len(critiques) > 1 else ():
        middle = math.fsum(values) / len(values)
        squares += math.fsum((value - middle) ** 2 for value in values)
    return squares, 2 * max(len(critiques) - 1, 0)


def verification(session: Session, candidate: Candidate) -> VerifyJob | None:
    """The next further critique of a scored candidate; None if there were enough, or another cannot help."""
    choosing = session.created.choosing
    if choosing is None or candidate.image is None or not candidate.critiques or log_is_full(session):
        return None
    tries_left = candidate.verify_may_be_retried and candidate.verify_attempts < session.created.limits.critique_attempts
    if not tries_left or len(candidate.critiques) > choosing.confirmations:
        return None
    instruction = session.turns[candidate.turn - 1].instruction
    number, attempt = len(candidate.critiques) + 1, candidate.verify_attempts + 1
    return VerifyJob(candidate.turn, candidate.number, number, attempt, instruction, candidate.image)


def doubts(session: Session) -> Iterator[VerifyJob | CompareJob]:
    """What to ask before the best candidate is the answer: which one it is, where others are about as good."""
    scored = [candidate for candidate in contenders(session) if candidate.scores]
    if not scored:
        return
    leader = max(scored, key=lambda candidate: rank(session, candidate))
    rivals = [candidate for candidate in scored if candidate.ref != leader.ref and _are_close(session, leader, candidate)]
    if not rivals:
        return
    choosing = session.created.choosing
    most = _BEFORE_A_PAIR if choosing and choosing.compares else math.inf
    # Those that are known least first: each further critique may settle it.
    jobs = [job for each in (leader, *rivals) if (job := verification(session, each)) and job.number <= most]
    fewest = min((job.number for job in jobs), default=0)
    yield from (job for job in jobs if job.number == fewest)
    if choosing and choosing.compares and not jobs:
        second = max(rivals, key=lambda candidate: rank(session, candidate))
        yield from _comparison(session, *(each.ref for each in _in_order(leader, second)))


def doubt_of_all(session: Session) -> Iterator[CompareJob]:
    """Whether the best candidate is better than doing nothing."""
    top = best(session)
    if session.created.choosing and top:
        yield from _comparison(session, top, None)


def _in_order(one: Candidate, other: Candidate) -> tuple[Candidate, Candidate]:
    """The earlier first."""
    return (one, other) if (one.turn, one.number) < (other.turn, other.number) else (other, one)


def _are_close(session: Session, first: Candidate, second: Candidate) -> bool:
    assert first.scores is not None
    assert second.scores is not None
    # The mean of a geometric mean's two scores has about half the variance of one.
    error = noise(session) * math.sqrt((1 / len(first.critiques) + 1 / len(second.critiques)) / 2)
    return error > 0 and abs(first.scores.overall - second.scores.overall) <= _CLOSE * error


def _comparison(session: Session, first: CandidateRef, second: CandidateRef | None) -> Iterator[CompareJob]:
    tried = [each for each in session.comparisons if (each.first, each.second) == (first, second)]
    attempts = max((each.attempt for each in tried if not isinstance(each, Compared)), default=0)
    settled = any(isinstance(each, Compared) or not each.retryable for each in tried)
    if not settled and attempts < session.created.limits.critique_attempts and not log_is_full(session):
        yield CompareJob(first, second, attempts + 1)


def _verdict(session: Session, first: Candidate | CandidateRef, second: Candidate | CandidateRef | None) -> Compared | None:
    """The judge's comparison of these two, the latest if there are several."""
    refs = [each.ref if isinstance(each, Candidate) else each for each in (first, second)]
    found = [each for each in session.comparisons if isinstance(each, Compared) and [each.first, each.second] == refs]
    return found[-1] if found else None


# --- the next turn ----------------------------------------------------------------------------------------------------


def next_instruction(session: Session) -> tuple[str, Author]:
    """A person's new instruction; of the first turn the caller's or the rewritten one; then a refined one; otherwise the same."""
    if session.new_instruction:
        return session.new_instruction, "person"
    turn = session.turn
    if turn is None or is_refused(session):
        return opening(session)
    if session.created.strategy in _REFINING:
        refined = _best_refinement(session) if session.created.choosing else _last_refinement(session)
        if refined and refined != turn.instruction:
            return refined, "thinker"
    # No refinement is not satisfaction: below the thresholds the same instruction is tried with another seed.
    return turn.instruction, turn.author


def improves(session: Session, ref: CandidateRef) -> Candidate | None:
    """The candidate that this one was made to improve, if the critique that refined its instruction points at places."""
    instruction = session.turns[ref.turn - 1].instruction
    earlier = [candidate for turn in session.turns[: ref.turn - 1] for candidate in turn.candidates]
    pointed = [candidate for candidate in earlier if candidate.places and candidate.refined_instruction == instruction]
    return pointed[-1] if pointed else None


def refinement(session: Session) -> RefineJob | None:
    """What to ask the thinker before the next turn; None where it scores itself, or has an instruction that was not tried."""
    created = session.created
    if created.scorer == created.thinker or created.strategy not in _REFINING or log_is_full(session):
        return None
    tried = {turn.instruction for turn in _since_a_person(session)}
    for candidate in _refinable(session):
        if any(text not in tried for text in candidate.refinements):
            return None
        tries_left = candidate.refine_may_be_retried and candidate.refine_attempts < created.limits.critique_attempts
        if not candidate.refined and tries_left and candidate.image:
            instruction, attempt = session.turns[candidate.turn - 1].instruction, candidate.refine_attempts + 1
            return RefineJob(candidate.turn, candidate.number, attempt, instruction, candidate.image)
    return None


def _refinable(session: Session) -> list[Candidate]:
    """The candidates that the next turn may refine, best first, rejected ones last: without `choosing` only this turn's best."""
    turns = _since_a_person(session) if session.created.choosing else session.turns[-1:]
    critiqued = [candidate for turn in turns for candidate in turn.candidates if candidate.scores or candidate.rejected]
    ranked = sorted(critiqued, key=lambda candidate: rank(session, candidate), reverse=True)
    return ranked if session.created.choosing else ranked[:1]


def _last_refinement(session: Session) -> str | None:
    """What the critique of this turn's best candidate proposes."""
    top = next(iter(_refinable(session)), None)
    return top.refined_instruction if top else None


def _best_refinement(session: Session) -> str | None:
    """What the critiques of the best candidate so far propose; of the next best one, where all of that was tried."""
    tried = {turn.instruction for turn in _since_a_person(session)}
    return next((text for candidate in _refinable(session) for text in candidate.refinements if text not in tried), None)


def _since_a_person(session: Session) -> tuple[Turn, ...]:
    """The turns since a person last gave an instruction; all if none did."""
    first = 0
    for number, turn in enumerate(session.turns):
        another = number == 0 or session.turns[number - 1].instruction != turn.instruction
        if turn.author == "person" and another and not turn.renders:
            first = number
    return session.turns[first:]
