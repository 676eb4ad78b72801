"""Session = fold(events): the state of a session, derived from its events and never stored.

`apply` alone makes a new state. It knows what has happened, not what should happen next (that is `policy`), and accepts any
order of events that a crash, a late response or a cancellation can produce.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final, Literal

from orchestrator.loop.events import (
    SEEDS,
    Alpha,
    Author,
    CancelRequested,
    CandidateRef,
    Carried,
    ChecklistAnswer,
    ChecklistFailed,
    ChecklistMade,
    ChecklistQuestion,
    Compared,
    CompareFailed,
    Critiqued,
    CritiqueFailed,
    Edited,
    EditFailed,
    EditRejected,
    EditStarted,
    Event,
    Failure,
    FeedbackGiven,
    Finished,
    ImageRef,
    OutsideMask,
    Place,
    Prepared,
    PrepareFailed,
    PrepareStarted,
    PreviewCritiqued,
    Previewed,
    PreviewFailed,
    Refined,
    RefineFailed,
    ReviewRequested,
    SessionCreated,
    Totals,
    TurnStarted,
    Verified,
    VerifyFailed,
)

Status = Literal["queued", "running", "awaiting_review", "cancelling", "succeeded", "failed", "cancelled"]


class CorruptLogError(Exception):
    """The events cannot be those of one session, for example a turn that was never started: a bug, or lost data."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A thinker's scores of one candidate, 0-10; spreads are standard deviations over samples."""

    semantic: float
    quality: float
    semantic_spread: float = 0.0
    quality_spread: float = 0.0

    @property
    def overall(self) -> float:
        """sqrt(semantic x quality)."""
        return math.sqrt(self.semantic * self.quality)


def mean_scores(critiques: tuple[Scores, ...]) -> Scores:
    """The mean of one critique or more, with the spread within and between them."""
    if len(critiques) == 1:
        return critiques[0]
    semantic = [scores.semantic for scores in critiques]
    quality = [scores.quality for scores in critiques]
    return Scores(
        _mean(semantic),
        _mean(quality),
        math.hypot(_spread(semantic), _mean([scores.semantic_spread for scores in critiques])),
        math.hypot(_spread(quality), _mean([scores.quality_spread for scores in critiques])),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(values: Sequence[float]) -> float:
    middle = _mean(values)
    return math.sqrt(_mean([(value - middle) ** 2 for value in values]))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One edit with one seed, and its outcome.

    Attributes:
        image: as the editor made it.
        scaled: the same at the size of the answer, where it is a result and the editor made it smaller.
        draft: whether it is made at a lower area and with fewer steps.
        unchanged: whether it has the source's pixels.
        not_understood: what of the instruction the editor says it did not carry out.
        trained: whether a trained model made it.
        carried: what the editor's file said of its origin.
        editor: the fallback that made it; None for the session's editor.
        preview: the unfinished picture by which it may be rejected, and its scores; both None where there was none.
        preview_refinement: the instruction that its critique proposes, which is the candidate's once it is rejected.
        preview_failed: whether that could not be scored.
        rejected: whether it was stopped for them.
    """

    turn: int
    number: int
    seed: int
    draft: bool = False
    attempts: int = 0
    editing: bool = False
    allowance_s: float | None = None
    image: ImageRef | None = None
    scaled: ImageRef | None = None
    outside_mask: OutsideMask | None = None
    editor_seconds: float = 0.0
    alpha: Alpha | None = None
    unchanged: bool = False
    not_understood: tuple[str, ...] = ()
    trained: bool = True
    carried: Carried | None = None
    editor: str | None = None
    edit_error: Failure | None = None
    edit_may_be_retried: bool = True
    critiques: tuple[Scores, ...] = ()
    scores: Scores | None = None
    """The mean of its critiques."""
    reasoning: str = ""
    answers: tuple[ChecklistAnswer, ...] = ()
    places: tuple[Place, ...] = ()
    outside_places: OutsideMask | None = None
    refined_instruction: str | None = None
    refinements: tuple[str, ...] = ()
    """The refined instructions of all its critiques, the strictest critique's first."""
    critique_attempts: int = 0
    critique_error: Failure | None = None
    critique_may_be_retried: bool = True
    verify_attempts: int = 0
    """Failed ones since the last critique."""
    verify_may_be_retried: bool = True
    refined: bool = False
    """Whether the thinker was asked for an instruction, where another judge scored it."""
    refinement_reasoning: str = ""
    """What the thinker then said."""
    refine_attempts: int = 0
    """Failed ones."""
    refine_may_be_retried: bool = True
    preview: ImageRef | None = None
    preview_scores: Scores | None = None
    preview_refinement: str | None = None
    preview_failed: bool = False
    rejected: bool = False
    thinker_seconds: float = 0.0

    @property
    def ref(self) -> CandidateRef:
        """Its turn and number."""
        return CandidateRef(turn=self.turn, candidate=self.number)

    @property
    def pictures(self) -> tuple[ImageRef | None, ...]:
        """All that is stored of it."""
        return self.image, self.scaled, self.preview

    @property
    def answer(self) -> ImageRef | None:
        """Its picture as a result of the session."""
        return self.scaled or self.image


@dataclass(frozen=True, slots=True)
class Turn:
    """One instruction and its candidates.

    Attributes:
        draft: whether they are drafts.
        renders: the draft that its only candidate is in full.
    """

    number: int
    instruction: str
    author: Author
    candidates: tuple[Candidate, ...]
    draft: bool = False
    renders: CandidateRef | None = None


@dataclass(frozen=True, slots=True)
class Preparation:
    """The instruction as it was rewritten for the editor, if it was, and the attempts at that.

    Attributes:
        attempts: failed ones.
        started: the number of the latest one that was begun; 0 before.
        error: of the latest.
    """

    instruction: str | None = None
    attempts: int = 0
    started: int = 0
    may_be_retried: bool = True
    error: Failure | None = None
    thinker_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Checklist:
    """The session's checklist, and the attempts at it."""

    questions: tuple[ChecklistQuestion, ...] = ()
    attempts: int = 0
    may_be_retried: bool = True


@dataclass(frozen=True, slots=True)
class SessionBounds:
    """What the operator lets one session grow to, feedback included; None is no limit.

    Attributes:
        turns: turns in all.
        feedback: times that a person gave feedback.
        log_bytes: bytes of its events, about; a turn that has begun is completed.
        image_bytes: bytes of its images; edits that have begun are completed.
    """

    turns: int | None = None
    feedback: int | None = None
    log_bytes: int | None = None
    image_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The state of a session.

    Attributes:
        bounds: of the server that drives or shows it; they are not part of the log.
        log_bytes: about how many bytes its events take.
        feedback: how often a person gave feedback.
        floor: the last turn before the latest feedback; the loop's limits count from there.
        review: the latest review request, while it is unanswered.
        new_instruction: a person's instruction that no turn has used yet.
    """

    created: SessionCreated
    turns: tuple[Turn, ...] = ()
    totals: Totals = field(default_factory=Totals)
    preparation: Preparation = field(default_factory=Preparation)
    checklist: Checklist = field(default_factory=Checklist)
    floor: int = 0
    comparisons: tuple[Compared | CompareFailed, ...] = ()
    review: ReviewRequested | None = None
    accepted: FeedbackGiven | None = None
    new_instruction: str | None = None
    cancelled: bool = False
    finished: Finished | None = None
    bounds: SessionBounds = field(default_factory=SessionBounds)
    log_bytes: int = 0
    feedback: int = 0

    @property
    def image_bytes(self) -> int:
        """Bytes of its images: those of its caller, and the candidates."""
        made = (stored for each in self.candidates for stored in (*each.pictures, each.carried))
        return self.created.input_bytes + sum(stored.bytes for stored in made if stored)

    @property
    def turn(self) -> Turn | None:
        """The current turn."""
        return self.turns[-1] if self.turns else None

    @property
    def candidates(self) -> Iterable[Candidate]:
        """Every candidate of every turn, in order."""
        return (candidate for turn in self.turns for candidate in turn.candidates)

    def candidate(self, ref: CandidateRef) -> Candidate | None:
        """The candidate of that turn and number, or None."""
        if not 1 <= ref.turn <= len(self.turns):
            return None
        candidates = self.turns[ref.turn - 1].candidates
        return candidates[ref.candidate - 1] if 1 <= ref.candidate <= len(candidates) else None

    def render_of(self, draft: CandidateRef) -> Candidate | None:
        """The candidate that was or is being made of a draft in full; None if no turn renders it."""
        return next((turn.candidates[0] for turn in self.turns if turn.renders == draft), None)

    @property
    def status(self) -> Status:
        """The status as the API names it."""
        if self.finished is None and self.cancelled:
            return "cancelling"
        if self.finished is None:
            begun = self.turns or self.preparation.started
            return "awaiting_review" if self.review else "running" if begun else "queued"
        if self.finished.reason == "cancelled":
            return "cancelled"
        return "succeeded" if self.finished.best else "failed"


def fold(events: Iterable[Event], bounds: SessionBounds | None = None) -> Session:
    """The state after these events, in order, on a server with these bounds.

    Raises:
        CorruptLogError: if the first is not `session_created`, or one names a turn that was never started.
    """
    stream = iter(events)
    first = next(stream, None)
    if not isinstance(first, SessionCreated):
        raise CorruptLogError("a session's first event is session_created")
    return reduce(apply, stream, Session(first, bounds=bounds or SessionBounds(), log_bytes=_size(first)))


def apply(session: Session, event: Event) -> Session:
    """The state after one more event."""
    return replace(_apply(session, event), log_bytes=session.log_bytes + _size(event))


_EVENT_BYTES: Final = 300
"""An event without its texts; those of the recorded sessions have 120 to 700 bytes."""
_PLACE_BYTES: Final = 60
"""A box and the names of its fields, without its word."""
_IMAGE_BYTES: Final = 150
"""An image's digest, type and size."""


def _size(event: Event) -> int:
    """About how many bytes an event adds to a log, which has each instruction once."""
    texts: list[str | None] = []
    images = places = 0
    match event:
        case SessionCreated():
            images = len(event.references) + len(event.carried)
            reasons = [reason for each in event.carried.values() for reason in each.reasons]
            texts = [event.instruction, *event.metadata.keys(), *event.metadata.values(), *reasons]
            texts += [value for value in event.editor_options.values() if isinstance(value, str)]
        case Finished():
            images = sum(image is not None for image in event.scaled)
        case FeedbackGiven() | Prepared():
            texts = [event.instruction]
        case Edited():
            images = int(event.carried is not None)
            texts = [*event.not_understood, *(event.carried.reasons if event.carried else ())]
        case Critiqued() | Verified():
            texts = [event.instruction, event.reasoning, event.reply, *(answer.reason for answer in event.answers)]
            texts += [place.word for place in event.places]
            places = len(event.places)
        case ChecklistMade():
            texts = [question.text for question in event.questions]
        case Compared():
            texts = [event.reasoning]
        case Refined():
            texts = [event.instruction, event.reasoning, event.reply]
        case (EditFailed() | CritiqueFailed() | ChecklistFailed() | VerifyFailed() | CompareFailed()) | (
            RefineFailed() | PrepareFailed() | PreviewFailed()
        ):
            texts = [event.message]
    return _EVENT_BYTES + images * _IMAGE_BYTES + places * _PLACE_BYTES + sum(len(text.encode()) for text in texts if text)


def _apply(session: Session, event: Event) -> Session:
    match event:
        case TurnStarted():
            return _turn_started(session, event)
        case (EditStarted() | Edited() | EditFailed() | Critiqued() | CritiqueFailed()) | (
            (Verified() | VerifyFailed() | Refined() | RefineFailed())
            | (Previewed() | PreviewCritiqued() | PreviewFailed() | EditRejected())
        ):
            return _candidate_event(session, event)
        case PrepareStarted() | Prepared() | PrepareFailed() | ChecklistMade() | ChecklistFailed():
            return _text_of_session(session, event)
        case Compared() | CompareFailed():
            return _comparison(session, event)
        case ReviewRequested():
            return replace(session, review=event)
        case FeedbackGiven():
            return _feedback(session, event)
        case CancelRequested():
            return replace(session, cancelled=True)
        case Finished():
            return replace(_with_scaled(session, event), finished=event, review=None)
        case SessionCreated():
            raise CorruptLogError("session_created twice")


def _turn_started(session: Session, event: TurnStarted) -> Session:
    if event.turn != len(session.turns) + 1:
        raise CorruptLogError(f"turn {event.turn} after turn {len(session.turns)}")
    numbers = range(1, event.candidates + 1)
    seeds = ((event.first_seed + number - 1) % SEEDS for number in numbers)
    candidates = tuple(Candidate(event.turn, number, seed, event.draft) for number, seed in zip(numbers, seeds, strict=True))
    turn = Turn(event.turn, event.instruction, event.author, candidates, event.draft, event.renders)
    totals = session.totals.model_copy(update={"turns": event.turn})
    return replace(session, turns=(*session.turns, turn), totals=totals, new_instruction=None)


def _text_of_session(
    session: Session, event: PrepareStarted | Prepared | PrepareFailed | ChecklistMade | ChecklistFailed
) -> Session:
    """What a model writes once for the whole session."""
    if isinstance(event, PrepareStarted):
        return replace(session, preparation=replace(session.preparation, started=event.attempt))
    return _preparation(session, event) if isinstance(event, Prepared | PrepareFailed) else _checklist(session, event)


def _preparation(session: Session, event: Prepared | PrepareFailed) -> Session:
    before = session.preparation
    seconds = session.totals.thinker_seconds + event.thinker_seconds
    after = replace(before, thinker_seconds=before.thinker_seconds + event.thinker_seconds)
    if isinstance(event, Prepared):
        after, tokens = replace(after, instruction=event.instruction, error=None), _tokens(session.totals, event)
    else:
        error = Failure(code=event.code, message=event.message)
        after, tokens = replace(after, attempts=event.attempt, may_be_retried=event.retryable, error=error), {}
    return replace(session, preparation=after, totals=session.totals.model_copy(update={"thinker_seconds": seconds, **tokens}))


def _checklist(session: Session, event: ChecklistMade | ChecklistFailed) -> Session:
    before = session.checklist
    if isinstance(event, ChecklistMade):
        after, tokens = replace(before, questions=event.questions), _tokens(session.totals, event)
    else:
        after, tokens = replace(before, attempts=event.attempt, may_be_retried=event.retryable), {}
    seconds = session.totals.thinker_seconds + event.thinker_seconds
    return replace(session, checklist=after, totals=session.totals.model_copy(update={"thinker_seconds": seconds, **tokens}))


def _comparison(session: Session, event: Compared | CompareFailed) -> Session:
    for ref in filter(None, (event.first, event.second)):
        if session.candidate(ref) is None:
            raise CorruptLogError(f"{event.type} for turn {ref.turn}, candidate {ref.candidate}, which was never started")
    seconds = session.totals.thinker_seconds + event.thinker_seconds
    tokens = _tokens(session.totals, event) if isinstance(event, Compared) else {}
    totals = session.totals.model_copy(update={"thinker_seconds": seconds, **tokens})
    return replace(session, comparisons=(*session.comparisons, event), totals=totals)


def _feedback(session: Session, event: FeedbackGiven) -> Session:
    session = replace(session, review=None, feedback=session.feedback + 1)
    if event.action in {"accept", "pick"}:
        return replace(session, accepted=event)
    return replace(session, floor=len(session.turns), new_instruction=event.instruction)


def _with_scaled(session: Session, event: Finished) -> Session:
    scaled = {ref: image for ref, image in zip(event.results, event.scaled, strict=False) if image is not None}
    if not scaled:
        return session
    turns = (
        replace(turn, candidates=tuple(replace(each, scaled=scaled.get(each.ref)) for each in turn.candidates))
        for turn in session.turns
    )
    return replace(session, turns=tuple(turns))


_PreviewEvent = Previewed | PreviewCritiqued | PreviewFailed | EditRejected
_EditEvent = EditStarted | Edited | EditFailed | Critiqued | CritiqueFailed | Verified | VerifyFailed | Refined | RefineFailed
_CandidateEvent = _EditEvent | _PreviewEvent


def _candidate_event(session: Session, event: _CandidateEvent) -> Session:
    ref = CandidateRef(turn=event.turn, candidate=event.candidate)
    before = session.candidate(ref)
    if before is None:
        raise CorruptLogError(f"{event.type} for turn {ref.turn}, candidate {ref.candidate}, which was never started")
    turn = session.turns[ref.turn - 1]
    after = _previewed(before, event) if isinstance(event, _PreviewEvent) else _advance(before, event)
    candidates = (*turn.candidates[: ref.candidate - 1], after, *turn.candidates[ref.candidate :])
    turns = (*session.turns[: ref.turn - 1], replace(turn, candidates=candidates), *session.turns[ref.turn :])
    return replace(session, turns=turns, totals=_count(session.totals, event))


def _advance(candidate: Candidate, event: _EditEvent) -> Candidate:
    match event:
        case EditStarted():
            return replace(candidate, attempts=event.attempt, editing=True, seed=event.seed, allowance_s=event.allowance_s)
        case Edited():
            seconds = candidate.editor_seconds + event.editor_seconds
            made = replace(candidate, editing=False, image=event.image, outside_mask=event.outside_mask, alpha=event.alpha)
            told = replace(made, unchanged=event.unchanged, not_understood=event.not_understood, trained=event.trained)
            return replace(told, carried=event.carried, editor=event.editor, editor_seconds=seconds, edit_error=None)
        case EditFailed():
            seconds = candidate.editor_seconds + event.editor_seconds
            error = Failure(code=event.code, message=event.message)
            failed = replace(candidate, editing=False, editor_seconds=seconds, edit_error=error)
            again = event.retryable and not candidate.rejected
            # Another attempt shows an unfinished picture of its own.
            failed = replace(failed, preview=None, preview_scores=None, preview_failed=False) if again else failed
            return replace(failed, edit_may_be_retried=again)
        case Critiqued():
            # The first critique, also if Redis forgot an earlier one.
            first = replace(candidate, critiques=(), refinements=(), outside_places=event.outside_places)
            return replace(_critiqued(first, event), critique_error=None)
        case Verified():
            return replace(_critiqued(candidate, event), verify_attempts=0)
        case VerifyFailed():
            seconds = candidate.thinker_seconds + event.thinker_seconds
            attempts, again = event.attempt, event.retryable
            return replace(candidate, verify_attempts=attempts, verify_may_be_retried=again, thinker_seconds=seconds)
        case Refined():
            return _refined(candidate, event)
        case RefineFailed():
            seconds = candidate.thinker_seconds + event.thinker_seconds
            attempts, again = event.attempt, event.retryable
            return replace(candidate, refine_attempts=attempts, refine_may_be_retried=again, thinker_seconds=seconds)
        case CritiqueFailed():
            return replace(
                candidate,
                critique_attempts=event.attempt,
                critique_error=Failure(code=event.code, message=event.message),
                critique_may_be_retried=event.retryable,
                thinker_seconds=candidate.thinker_seconds + event.thinker_seconds,
            )


def _previewed(candidate: Candidate, event: _PreviewEvent) -> Candidate:
    match event:
        case Previewed():
            return replace(candidate, preview=event.image)
        case PreviewCritiqued():
            scores = Scores(event.semantic, event.quality)
            scored = replace(candidate, preview_scores=scores, preview_refinement=event.instruction)
            return replace(scored, thinker_seconds=candidate.thinker_seconds + event.thinker_seconds)
        case PreviewFailed():
            return replace(candidate, preview_failed=True, thinker_seconds=candidate.thinker_seconds + event.thinker_seconds)
        case EditRejected():
            stopped = replace(candidate, rejected=True, editing=False, edit_may_be_retried=False)
            text = candidate.preview_refinement
            return stopped if text is None else replace(stopped, refined_instruction=text, refinements=(text,))


def _critiqued(candidate: Candidate, event: Critiqued | Verified) -> Candidate:
    """The candidate with one more critique; its texts are those of the strictest, the earlier one where they are equal."""
    scores = Scores(event.semantic, event.quality, event.semantic_spread, event.quality_spread)
    stricter = not candidate.critiques or scores.overall < min(known.overall for known in candidate.critiques)
    seconds = candidate.thinker_seconds + event.thinker_seconds
    critiques = (*candidate.critiques, scores)
    after = replace(candidate, critiques=critiques, scores=mean_scores(critiques), thinker_seconds=seconds)
    refined = () if event.instruction is None else (event.instruction,)
    if not stricter:
        return replace(after, refinements=(*candidate.refinements, *refined))
    return replace(
        after,
        reasoning=event.reasoning,
        answers=event.answers,
        places=event.places,
        refined_instruction=candidate.refined_instruction if candidate.refined else event.instruction,
        refinements=(*refined, *candidate.refinements),
    )


def _refined(candidate: Candidate, event: Refined) -> Candidate:
    refined = () if event.instruction is None else (event.instruction,)
    return replace(
        candidate,
        refined=True,
        refinement_reasoning=event.reasoning,
        refined_instruction=event.instruction,
        refinements=(*candidate.refinements, *refined),
        thinker_seconds=candidate.thinker_seconds + event.thinker_seconds,
    )


def _count(totals: Totals, event: _CandidateEvent) -> Totals:
    match event:
        case EditStarted():
            return totals.model_copy(update={"edits": totals.edits + 1})
        case Edited() | EditFailed():
            return totals.model_copy(update={"editor_seconds": totals.editor_seconds + event.editor_seconds})
        case Critiqued() | Verified() | Refined() | PreviewCritiqued():
            seconds = totals.thinker_seconds + event.thinker_seconds
            return totals.model_copy(update={"thinker_seconds": seconds, **_tokens(totals, event)})
        case Previewed() | EditRejected():
            return totals
        case CritiqueFailed() | VerifyFailed() | RefineFailed() | PreviewFailed():
            return totals.model_copy(update={"thinker_seconds": totals.thinker_seconds + event.thinker_seconds})


ModelEvent = Critiqued | Verified | Compared | Refined | ChecklistMade | Prepared | PreviewCritiqued
"""A reply of a model."""


def _tokens(totals: Totals, event: ModelEvent) -> dict[str, int]:
    return {
        "prompt_tokens": totals.prompt_tokens + event.prompt_tokens,
        "completion_tokens": totals.completion_tokens + event.completion_tokens,
        "cached_tokens": totals.cached_tokens + event.cached_tokens,
    }
