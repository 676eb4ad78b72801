"""The Think-while-Edit cycle: `decide` computes the next action from a session and the time.

    (let a preparer rewrite the caller's instruction)      where the editor was trained on longer ones
    edit the source with the caller's instruction          turn 1
    let the judge critique every candidate                 scores, reasons
    let the thinker write the next instruction             in the same reply, where it is the judge
    edit the *source* again with the refined instruction   turn 2, 3 …
    until a candidate satisfies for certain, or turns, patience, time or budget run out
    and answer with the best candidate of all turns, the first included

With `draft`, turns make drafts, and before the answer the best of them is edited in full and critiqued. With `reject_early`, the
judge scores the unfinished picture of an edit, and one that cannot become the best is stopped.

The driver carries the action out, records its outcome as events, and calls `decide` again. After a crash, `decide` runs again:
work without a recorded event is retried.

`stopping` says when it ends, `choosing` which candidate is the answer and which one is refined, `preparing` what comes before the
first edit, `drafting` which draft is edited in full, `rejecting` which edit is stopped, `spending` what may still be spent;
`actions` are what can be decided.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.loop.actions import (
    Action,
    AskReview,
    ChecklistJob,
    CompareJob,
    CritiqueJob,
    EditJob,
    Finish,
    Job,
    RefineJob,
    RejectEdit,
    Rest,
    StartTurn,
    VerifyJob,
    Wait,
    Work,
)
from orchestrator.loop.choosing import best, doubt_of_all, doubts, next_instruction, preferred, ranking, refinement
from orchestrator.loop.drafting import can_render, makes_drafts, to_render
from orchestrator.loop.events import SEEDS, SUPERSEDED, TOO_LATE, CandidateRef, Failure, FinishReason
from orchestrator.loop.preparing import is_refused, preparation
from orchestrator.loop.rejecting import hopeless, preview_to_score
from orchestrator.loop.session import Candidate, Session, Turn
from orchestrator.loop.spending import affordable, budget_is_spent, images_are_full, latest_start, turns_are_used_up
from orchestrator.loop.stopping import confirmations, exhausted, nothing_can_be_made, satisfied


def decide(session: Session, now: float, edit_s: float = 0.0) -> Action:
    """The next action for a session at time `now` (Unix seconds), where an edit takes about `edit_s` seconds (0: unknown)."""
    if session.finished:
        return Rest()
    if session.cancelled:
        return _finish(session, "cancelled")
    late = now > latest_start(session, edit_s)
    late_for_drafts = session.created.draft and now > latest_start(session, edit_s, draft=True)
    if session.accepted:
        return _accept(session, late=late, over=now >= session.created.limits.deadline_at)
    if now >= session.created.limits.deadline_at:
        return _finish(session, "deadline")
    instructed = session.new_instruction and not (budget_is_spent(session) or turns_are_used_up(session))
    if session.turn is None or instructed:
        return _finish(session, "deadline") if late else _begin_turn(session, draft=not late_for_drafts)
    if session.review:
        return Wait()
    return _continue(session, session.turn, late=late, late_for_drafts=late_for_drafts)


def _continue(session: Session, turn: Turn, *, late: bool, late_for_drafts: bool) -> Action:
    """The next action in a turn, or after it. No edit is started late, and no draft that leaves no time for an edit in full."""
    if satisfied(session):
        action, left_over = _end(session, "satisfied"), False
    elif rejected := next((each for each in turn.candidates if hopeless(session, each)), None):
        return RejectEdit(turn.number, rejected.number)
    else:
        jobs = tuple(_open_jobs(session, turn))
        if possible := tuple(job for job in jobs if not _is_late(job, late=late, late_for_drafts=late_for_drafts)):
            return Work(possible)
        action, left_over = _after_turn(session), bool(jobs)
    if late and (left_over or _leads_to_a_turn(action)):
        return _finish(session, "deadline")
    if late_for_drafts and (left_over or (_leads_to_a_turn(action) and not _renders(action))):
        return _render(session) or _finish(session, "deadline")
    return action


def _is_late(job: Job, *, late: bool, late_for_drafts: bool) -> bool:
    return isinstance(job, EditJob) and not job.started and (late_for_drafts if job.draft else late)


def _leads_to_a_turn(action: Action) -> bool:
    return isinstance(action, StartTurn) or (isinstance(action, Work) and isinstance(action.jobs[0], RefineJob))


def _renders(action: Action) -> bool:
    return isinstance(action, StartTurn) and action.renders is not None


def _begin_turn(session: Session, *, draft: bool) -> Action:
    """Start the first turn, once its instruction is prepared, or one with a person's instruction."""
    job = preparation(session)
    return Work((job,)) if job else _start_turn(session, draft=draft)


def _after_turn(session: Session) -> Action:
    """The action once the current turn is complete: finish, request a review, or start the next turn."""
    if is_refused(session) and not budget_is_spent(session):
        return _start_turn(session)
    asked: list[VerifyJob | CompareJob] = [*confirmations(session)] or [*doubts(session)]
    if asked:
        return Work(tuple(asked))
    if nothing_can_be_made(session):
        late = any(candidate.edit_error and candidate.edit_error.code == TOO_LATE for candidate in session.candidates)
        return _finish(session, "budget" if budget_is_spent(session) else "deadline" if late else "failed")
    if reason := exhausted(session):
        return _end(session, reason)
    if job := refinement(session):
        return Work((job,))
    if session.created.review == "each_turn" and session.floor < len(session.turns):
        return _ask(session, None)
    return _start_turn(session)


def _end(session: Session, reason: FinishReason) -> Action:
    """Finish, or request a review first if the session wants one; before both, settle which candidate is the best, and edit it in
    full if it is a draft.
    """
    is_satisfied = reason == "satisfied"
    asked: list[VerifyJob | CompareJob] = [*doubts(session)]
    if not asked and (render := _render(session, satisfied=is_satisfied)):
        return render
    if is_satisfied and session.turn and session.turn.draft:
        # Only drafts satisfy, and none of them can be rendered any more.
        is_satisfied, reason = False, exhausted(session) or "budget"
    asked = asked or ([] if is_satisfied else [*doubt_of_all(session)])
    if asked:
        return Work(tuple(asked))
    if session.created.review != "never" and best(session):
        return _ask(session, reason)
    return _finish(session, reason)


def _accept(session: Session, *, late: bool, over: bool) -> Action:
    """Finish with what a person accepted; a draft is edited in full first."""
    accepted = _picked(session) or best(session)
    draft = session.candidate(accepted) if accepted else None
    if draft is None or not draft.draft or over:
        return _finish(session, "accepted")
    if session.render_of(draft.ref) is None:
        return _finish(session, "accepted") if late or not can_render(session) else _turn_of(session, draft)
    jobs = _open_jobs(session, session.turn) if session.turn and session.turn.renders == draft.ref else ()
    edits = tuple(job for job in jobs if isinstance(job, EditJob) and (job.started or not late))
    return Work(edits) if edits else _finish(session, "accepted")


def _picked(session: Session) -> CandidateRef | None:
    accepted = session.accepted
    if accepted and accepted.action == "pick" and accepted.turn and accepted.candidate:
        return CandidateRef(turn=accepted.turn, candidate=accepted.candidate)
    return None


def _finish(session: Session, reason: FinishReason) -> Finish:
    results = tuple(candidate.ref for candidate in ranking(session))
    if picked := _picked(session):
        render = session.render_of(picked)
        picked = render.ref if render and render.image else picked
        results = (picked, *(ref for ref in results if ref != picked))
    results = results[: session.created.results]
    error = None if results and reason != "failed" else _error(session, reason)
    top = results[0] if results else None
    return Finish(reason, top, results, error, preferred(session, top))


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


def _start_turn(session: Session, *, draft: bool = True) -> StartTurn:
    """The next turn; of drafts, where the session wants them and both `draft` and what is left allow it."""
    instruction, author = next_instruction(session)
    tried = sum(len(turn.candidates) for turn in session.turns if turn.instruction == instruction and not turn.renders)
    # A new instruction gets the first turn's seed, so that only the instruction changes the result;
    # an instruction that was used before gets other seeds.
    first_seed = (session.created.seed + tried) % SEEDS
    candidates, number = session.created.limits.candidates, len(session.turns) + 1
    return StartTurn(number, instruction, author, candidates, first_seed, draft and makes_drafts(session))


def _render(session: Session, *, satisfied: bool = False) -> StartTurn | None:
    draft = to_render(session, satisfied=satisfied)
    return _turn_of(session, draft) if draft else None


def _turn_of(session: Session, draft: Candidate) -> StartTurn:
    """The turn that edits a draft in full: its instruction and its seed."""
    turn = session.turns[draft.turn - 1]
    return StartTurn(len(session.turns) + 1, turn.instruction, turn.author, 1, draft.seed, renders=draft.ref)


def _ask(session: Session, reason: FinishReason | None) -> AskReview:
    return AskReview(len(session.turns), best(session), reason)


def _open_jobs(session: Session, turn: Turn) -> Iterator[Job]:
    """The jobs that the turn still needs: edits within the budget, the checklist, and the critique of every image."""
    checklist_first = _wants_checklist(session)
    if checklist_first:
        yield ChecklistJob(session.checklist.attempts + 1)
    missing = [candidate for candidate in turn.candidates if _wants_edit(session, candidate)]
    count, allowance = affordable(session, len(missing))
    to_start = {candidate.number for candidate in missing[:count]}
    for candidate in turn.candidates:
        if candidate.editing:
            yield _edit_job(turn, candidate, candidate.attempts, candidate.allowance_s)
            if job := preview_to_score(candidate, turn.instruction):
                yield job
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


def _edit_job(turn: Turn, candidate: Candidate, attempt: int, allowance: float | None) -> EditJob:
    # The same for every attempt, so that an edit finished after its connection broke is not made again.
    key = f"{turn.number}/{candidate.number}"
    started, seed = candidate.editing, candidate.seed
    return EditJob(turn.number, candidate.number, attempt, key, turn.instruction, seed, started, allowance, turn.draft)
