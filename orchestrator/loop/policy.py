"""The Think-while-Edit cycle: `decide` computes the next action from a session and the time.

    edit the source with the caller's instruction          turn 1
    let the thinker critique every candidate               scores, reasons, a refined instruction
    edit the *source* again with the refined instruction   turn 2, 3 …
    until a candidate satisfies, or turns, patience, time or budget run out
    and answer with the best candidate of all turns, the first included

The driver carries the action out, records its outcome as events, and calls `decide` again. After a crash, `decide` runs again:
work without a recorded event is retried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.loop.events import SEEDS, SUPERSEDED, TOO_LATE, Author, CandidateRef, Failure, FinishReason, ImageRef
from orchestrator.loop.session import Candidate, Session, Turn

# --- actions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartTurn:
    """Record a new turn with this instruction, this many candidates, and seeds from `first_seed` on."""

    turn: int
    instruction: str
    author: Author
    candidates: int
    first_seed: int


@dataclass(frozen=True, slots=True)
class EditJob:
    """Make one candidate, always from the source image.

    Attributes:
        key: idempotency key within the session; the same after a crash and for every attempt.
        started: whether the intent is recorded already.
        allowance_s: editor seconds of the session's budget that are reserved for it; None is no limit. An edit that takes
            longer is finished, since its seconds are spent already, but no other is started then.
    """

    turn: int
    candidate: int
    attempt: int
    key: str
    instruction: str
    seed: int
    started: bool
    allowance_s: float | None


@dataclass(frozen=True, slots=True)
class CritiqueJob:
    """Critique one candidate, which was made with `instruction`."""

    turn: int
    candidate: int
    attempt: int
    instruction: str
    image: ImageRef


@dataclass(frozen=True, slots=True)
class ChecklistJob:
    """Write the session's checklist, while the first edits are made."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Work:
    """The jobs that should be running now: start those that are not, and cancel others."""

    jobs: tuple[EditJob | CritiqueJob | ChecklistJob, ...]


@dataclass(frozen=True, slots=True)
class AskReview:
    """Record a review request; `reason` is why the loop would finish, None if it would continue."""

    turn: int
    best: CandidateRef | None
    reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until a person gives feedback or the deadline passes."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Record that the session finished."""

    reason: FinishReason
    best: CandidateRef | None
    results: tuple[CandidateRef, ...]
    error: Failure | None


@dataclass(frozen=True, slots=True)
class Rest:
    """The session is finished."""


Action = StartTurn | Work | AskReview | Wait | Finish | Rest

# --- the cycle ---------------------------------------------------------------------------------------------------


def decide(session: Session, now: float, edit_s: float = 0.0) -> Action:
    """The next action for a session at time `now` (Unix seconds), where an edit takes about `edit_s` seconds (0: unknown)."""
    if session.finished:
        return Rest()
    if session.cancelled:
        return _finish(session, "cancelled")
    if session.accepted:
        return _finish(session, "accepted")
    if now >= session.created.limits.deadline_at:
        return _finish(session, "deadline")
    late = now > latest_start(session, edit_s)
    instructed = session.new_instruction and not (_budget_is_spent(session) or turns_are_used_up(session))
    if session.turn is None or instructed:
        return _finish(session, "deadline") if late else _start_turn(session)
    if session.review:
        return Wait()
    if satisfied(session):
        return _end(session, "satisfied")
    jobs = tuple(_open_jobs(session, session.turn))
    if possible := tuple(job for job in jobs if not (late and isinstance(job, EditJob) and not job.started)):
        return Work(possible)
    action = _after_turn(session)
    return _finish(session, "deadline") if late and (jobs or isinstance(action, StartTurn)) else action


def latest_start(session: Session, edit_s: float) -> float:
    """The latest time (Unix seconds) to start an edit of about `edit_s` seconds so that it meets the deadline. While half of the
    session's time is left, an edit is always started, since estimates may be wrong.
    """
    ends = session.created.limits.deadline_at
    return ends - min(edit_s, (ends - session.created.at) / 2)


def _after_turn(session: Session) -> Action:
    """The action once the current turn is complete: finish, request a review, or start the next turn."""
    if nothing_can_be_made(session):
        late = any(candidate.edit_error and candidate.edit_error.code == TOO_LATE for candidate in session.candidates)
        return _finish(session, "budget" if _budget_is_spent(session) else "deadline" if late else "failed")
    if reason := _exhausted(session):
        return _end(session, reason)
    if session.created.review == "each_turn" and session.floor < len(session.turns):
        return _ask(session, None)
    return _start_turn(session)


def _end(session: Session, reason: FinishReason) -> Action:
    """Finish, or request a review first if the session wants one."""
    if session.created.review != "never" and best(session):
        return _ask(session, reason)
    return _finish(session, reason)


# --- end conditions ------------------------------------------------------------------------------------------------


def satisfied(session: Session) -> bool:
    """Whether a candidate since the last feedback meets both thresholds, and enough candidates were made."""
    fresh = any(meets(session, candidate) for turn in session.turns[session.floor :] for candidate in turn.candidates)
    return fresh and _enough_made(session)


def meets(session: Session, candidate: Candidate) -> bool:
    """Whether both scores reach their thresholds. An unscored candidate never does."""
    limits, scores = session.created.limits, candidate.scores
    return bool(scores and scores.semantic >= limits.semantic_threshold and scores.quality >= limits.quality_threshold)


def _exhausted(session: Session) -> FinishReason | None:
    limits = session.created.limits
    if len(session.turns) - session.floor >= limits.max_turns or turns_are_used_up(session):
        return "max_turns"
    if session.created.strategy != "best_of_n" and stale_turns(session) >= limits.patience and _enough_made(session):
        return "plateau"
    return "budget" if _budget_is_spent(session) or log_is_full(session) else None


def turns_are_used_up(session: Session) -> bool:
    """Whether the session has as many turns as the server allows, those after feedback included."""
    return session.bounds.turns is not None and len(session.turns) >= session.bounds.turns


def log_is_full(session: Session) -> bool:
    """Whether the session's events take as many bytes as the server allows."""
    return session.bounds.log_bytes is not None and session.log_bytes >= session.bounds.log_bytes


def images_are_full(session: Session) -> bool:
    """Whether the session's images take as many bytes as the server allows."""
    return session.bounds.image_bytes is not None and session.image_bytes >= session.bounds.image_bytes


def stale_turns(session: Session) -> int:
    """Turns since the last one with a better candidate, counted from the last feedback."""
    stale, record = 0, _rank(session, None)
    for turn in session.turns:
        top = max((_rank(session, candidate) for candidate in turn.candidates), default=record)
        stale = 0 if top > record else stale + 1
        record = max(record, top)
        if turn.number == session.floor:
            stale = 0
    return stale


def nothing_can_be_made(session: Session) -> bool:
    """Whether no turn has made an image, after every edit of this one has failed for good."""
    return not any(candidate.image for candidate in session.candidates)


def _budget_is_spent(session: Session) -> bool:
    limits, totals = session.created.limits, session.totals
    no_edits = limits.budget_edits is not None and totals.edits >= limits.budget_edits
    seconds = _seconds_left(session)
    return no_edits or (seconds is not None and seconds < _MIN_ALLOWANCE_S) or images_are_full(session)


def _enough_made(session: Session) -> bool:
    return sum(1 for candidate in session.candidates if candidate.image) >= session.created.results


# --- the answer ------------------------------------------------------------------------------------------------------


def best(session: Session) -> CandidateRef | None:
    """The best candidate of all turns: one that meets the thresholds before one that does not, then by overall score, then the
    earlier one. Without any score, the first image, which the caller's own instruction made.
    """
    ranked = ranking(session)
    return ranked[0].ref if ranked else None


def ranking(session: Session) -> list[Candidate]:
    """Every candidate with an image, best first."""
    made = [candidate for candidate in session.candidates if candidate.image]
    return sorted(made, key=lambda candidate: _rank(session, candidate), reverse=True)


def _rank(session: Session, candidate: Candidate | None) -> tuple[bool, float]:
    if candidate is None or candidate.scores is None:
        return False, -1.0
    return meets(session, candidate), candidate.scores.overall


def _finish(session: Session, reason: FinishReason) -> Finish:
    results = tuple(candidate.ref for candidate in ranking(session))
    accepted = session.accepted
    if accepted and accepted.action == "pick" and accepted.turn and accepted.candidate:
        picked = CandidateRef(turn=accepted.turn, candidate=accepted.candidate)
        results = (picked, *(ref for ref in results if ref != picked))
    results = results[: session.created.results]
    error = None if results and reason != "failed" else _error(session, reason)
    return Finish(reason, results[0] if results else None, results, error)


def _error(session: Session, reason: FinishReason) -> Failure | None:
    """Why there is no image: the last error of an edit, or the limit that was reached."""
    errors = [candidate.edit_error for candidate in session.candidates if candidate.edit_error]
    errors = [error for error in errors if error.code != SUPERSEDED]
    if errors:
        return errors[-1]
    if reason == "deadline":
        return Failure(code=TOO_LATE, message="the deadline came before an image could be made; raise deadline_s")
    if reason == "budget" and images_are_full(session):
        message = "images take as many bytes as the server allows; send a smaller one, or delete sessions"
        return Failure(code="budget_exceeded", message=message)
    if reason == "budget":
        return Failure(code="budget_exceeded", message="the budget was spent before an image was made; raise it")
    return None


# --- the next turn ---------------------------------------------------------------------------------------------------


def _start_turn(session: Session) -> StartTurn:
    instruction, author = next_instruction(session)
    tried = sum(len(turn.candidates) for turn in session.turns if turn.instruction == instruction)
    # A new instruction gets the first turn's seed, so that only the instruction changes the result;
    # an instruction that was used before gets other seeds.
    first_seed = (session.created.seed + tried) % SEEDS
    return StartTurn(len(session.turns) + 1, instruction, author, session.created.limits.candidates, first_seed)


def next_instruction(session: Session) -> tuple[str, Author]:
    """A person's new instruction; otherwise the refined one of the last turn's best candidate; otherwise the same."""
    if session.new_instruction:
        return session.new_instruction, "person"
    turn = session.turn
    if turn is None:
        return session.created.instruction, "caller"
    critiqued = [candidate for candidate in turn.candidates if candidate.scores]
    if critiqued and session.created.strategy in {"think", "think_best_of_n"}:
        refined = max(critiqued, key=lambda candidate: _rank(session, candidate)).refined_instruction
        if refined and refined != turn.instruction:
            return refined, "thinker"
    # No refinement is not satisfaction: below the thresholds the same instruction is tried with another seed.
    return turn.instruction, turn.author


def _ask(session: Session, reason: FinishReason | None) -> AskReview:
    return AskReview(len(session.turns), best(session), reason)


# --- the work of a turn ----------------------------------------------------------------------------------------------

_MIN_ALLOWANCE_S: Final = 0.05
"""Remaining editor seconds below which no edit is started."""


def _open_jobs(session: Session, turn: Turn) -> Iterator[EditJob | CritiqueJob | ChecklistJob]:
    """The jobs that the turn still needs: edits within the budget, the checklist, and the critique of every image."""
    limits = session.created.limits
    checklist_first = _wants_checklist(session)
    if checklist_first:
        yield ChecklistJob(session.checklist.attempts + 1)
    missing = [candidate for candidate in turn.candidates if _wants_edit(session, candidate)]
    affordable = len(missing)
    if limits.budget_edits is not None:
        affordable = min(affordable, limits.budget_edits - session.totals.edits)
    allowance = _allowance(session, affordable)
    if (allowance is not None and allowance < _MIN_ALLOWANCE_S) or images_are_full(session):
        affordable = 0
    to_start = {candidate.number for candidate in missing[:affordable]}
    for candidate in turn.candidates:
        if candidate.editing:
            yield _edit_job(turn, candidate, candidate.attempts, candidate.allowance_s)
        elif candidate.number in to_start:
            yield _edit_job(turn, candidate, candidate.attempts + 1, allowance)
        elif candidate.image and _wants_critique(session, candidate) and not checklist_first:
            yield CritiqueJob(turn.number, candidate.number, candidate.critique_attempts + 1, turn.instruction, candidate.image)


def _wants_edit(session: Session, candidate: Candidate) -> bool:
    tries_left = candidate.edit_may_be_retried and candidate.attempts < session.created.limits.edit_attempts
    return candidate.image is None and not candidate.editing and tries_left


def _wants_checklist(session: Session) -> bool:
    checklist = session.checklist
    tries_left = checklist.may_be_retried and checklist.attempts < session.created.limits.critique_attempts
    return session.created.checklist and not checklist.questions and tries_left


def _wants_critique(session: Session, candidate: Candidate) -> bool:
    tries_left = candidate.critique_may_be_retried and candidate.critique_attempts < session.created.limits.critique_attempts
    return candidate.scores is None and tries_left


def _seconds_left(session: Session) -> float | None:
    """Editor seconds neither spent nor reserved for a running edit; None is no limit."""
    budget = session.created.limits.budget_editor_s
    if budget is None:
        return None
    reserved = sum(candidate.allowance_s or 0.0 for candidate in session.candidates if candidate.editing)
    return budget - session.totals.editor_seconds - reserved


def _allowance(session: Session, edits: int) -> float | None:
    left = _seconds_left(session)
    return None if left is None else left / max(edits, 1)


def _edit_job(turn: Turn, candidate: Candidate, attempt: int, allowance: float | None) -> EditJob:
    # The same for every attempt, so that an edit finished after its connection broke is not made again.
    key = f"{turn.number}/{candidate.number}"
    return EditJob(turn.number, candidate.number, attempt, key, turn.instruction, candidate.seed, candidate.editing, allowance)
