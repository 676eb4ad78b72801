"""The API's representation of a session, projected from its folded events."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from orchestrator.loop.choosing import best, preferred, ranking
from orchestrator.loop.events import (
    SUPERSEDED,
    Alpha,
    Author,
    CandidateRef,
    Carried,
    ChecklistAnswer,
    ChecklistQuestion,
    Compared,
    Failure,
    FinishReason,
    ImageRef,
    ManifestState,
    OutsideMask,
    Place,
    Review,
    SessionCreated,
    Strategy,
    Totals,
    Winner,
)
from orchestrator.loop.session import Candidate, Scores, Session, Status
from orchestrator.ports.stores import QueuePosition

CandidateStatus = Literal["planned", "editing", "edited", "critiqued", "unscored", "failed", "rejected", "stopped"]


class ScoresView(BaseModel):
    """A judge's scores from 0 to 10; overall = sqrt(semantic x quality)."""

    semantic: float
    quality: float
    overall: float
    semantic_spread: float = Field(0.0, description="Standard deviation over the judge's samples and critiques.")
    quality_spread: float = Field(0.0, description="Standard deviation over the judge's samples and critiques.")


class CarriedView(BaseModel):
    """What a picture from outside said of its own origin."""

    digital_source_type: str | None = Field(description="By its C2PA manifest or its XMP.")
    c2pa: ManifestState | None = Field(description="What its C2PA manifest is worth; null if it had none.")
    reasons: list[str] = Field(description="What does not validate, or why it was not read.")


class ImageView(ImageRef):
    """An image and its URL."""

    url: str
    carried: CarriedView | None = Field(
        default=None,
        exclude_if=lambda carried: carried is None,
        description="What the upload, or an editor's file, said of its own origin; left out where it said nothing.",
    )


class OutsideMaskView(OutsideMask):
    """What an edit changed outside the mask."""

    changed: float = Field(description="Share (0 to 1) of the picture outside the mask that changed visibly.")
    difference: float = Field(description="Mean difference there, in levels of 255.")


class PreviewView(ImageView):
    """The unfinished picture of an edit, by which it may be rejected early."""

    scores: ScoresView | None = Field(description="null until it is critiqued, or where that failed.")


class CandidateView(BaseModel):
    """One candidate: its edit and its critique."""

    candidate: int
    status: CandidateStatus
    seed: int
    image: ImageView | None
    answer: ImageView | None = Field(
        default=None,
        exclude_if=lambda image: image is None,
        description="Of a result: the picture at the size of the answer, where the editor's own is smaller.",
    )
    unchanged: bool = Field(
        default=False, exclude_if=lambda unchanged: not unchanged, description="Whether it has the source's pixels."
    )
    not_understood: list[str] = Field(
        default=[],
        exclude_if=lambda phrases: not phrases,
        description="What of the instruction the editor says it did not carry out.",
    )
    preview: PreviewView | None = Field(
        default=None,
        exclude_if=lambda preview: preview is None,
        description="With reject_early: the unfinished picture that was critiqued while the edit ran.",
    )
    outside_mask: OutsideMaskView | None = Field(description="Where the session has a mask and this was measured.")
    alpha: Alpha | None = Field(default=None, exclude_if=lambda alpha: alpha is None)
    """What became of the source's transparency; left out where the source has none."""
    scores: ScoresView | None = Field(description="The means of its critiques.")
    critiques: list[ScoresView] = Field(
        default=[],
        exclude_if=lambda critiques: not critiques,
        description="The scores of each, where the judge was asked more than once.",
    )
    reasoning: str | None
    answers: list[ChecklistAnswer]
    places: list[Place] = Field(
        default=[],
        exclude_if=lambda places: not places,
        description="What its critique points at: boxes on a grid of 0 to 1000 across the picture, each with a word.",
    )
    outside_places: OutsideMaskView | None = Field(
        default=None,
        exclude_if=lambda outside: outside is None,
        description="How it differs from the candidate that it was to improve, outside of what was pointed at there.",
    )
    refined_instruction: str | None
    refinement_reasoning: str | None = Field(
        default=None,
        exclude_if=lambda reasoning: reasoning is None,
        description="What the thinker said about it, where another judge scored the candidate.",
    )
    error: Failure | None
    editor_seconds: float
    thinker_seconds: float


class ComparisonView(BaseModel):
    """Two pictures that the judge compared."""

    first: CandidateRef
    second: CandidateRef | None = Field(description="null is the unedited source.")
    winner: Winner
    by: Literal["pair", "scores"] = Field(description="Side by side, or each scored alone.")
    reasoning: str | None


class PreparationView(BaseModel):
    """How the instruction was rewritten for the editor before the first edit."""

    preparer: str = Field(description="The configured preparer, or the thinker.")
    instruction: str | None = Field(description="The rewritten instruction; null until it is there, and if that failed.")
    error: Failure | None = Field(description="Why the latest attempt failed; the first turn then has the caller's own words.")
    thinker_seconds: float


class TurnView(BaseModel):
    """One instruction and its candidates."""

    turn: int
    instruction: str
    author: Author
    candidates: list[CandidateView]
    draft: bool = Field(
        default=False, exclude_if=lambda draft: not draft, description="Its pictures are drafts: small, and of fewer steps."
    )
    renders: CandidateRef | None = Field(
        default=None, exclude_if=lambda renders: renders is None, description="The draft that its candidate is in full."
    )


class LimitsView(BaseModel):
    """The limits that end a session."""

    max_turns: int
    candidates: int
    semantic_threshold: float
    quality_threshold: float
    patience: int
    budget_edits: int | None
    budget_editor_s: float | None


class Urls(BaseModel):
    """URLs of a session, relative to the server."""

    self: str
    events: str
    cancel: str
    feedback: str
    image: str


class QueueView(BaseModel):
    """A session's position in its queue."""

    ahead: int = Field(description="Sessions ahead of it; tenants take turns.")
    wait_s: float | None = Field(
        description="Expected wait in seconds, from the recent rate at which sessions left the queue; null while unknown."
    )


class SessionView(BaseModel):
    """A session."""

    id: str = Field(examples=["ses_5b1f0c6be2d14b5f9f0a8f6a3f4e2d1c"])
    object: Literal["session"] = "session"
    status: Status
    instruction: str
    editor: str
    thinker: str
    judge: str = Field(description="Who scores and compares; the thinker, unless another judge was chosen.")
    strategy: Strategy
    draft: bool = Field(
        default=False, exclude_if=lambda draft: not draft, description="Whether turns make drafts; the best is edited in full."
    )
    reject_early: bool = Field(
        default=False, exclude_if=lambda reject: not reject, description="Whether hopeless edits are stopped before their end."
    )
    review: Review
    created_at: float
    finished_at: float | None
    deadline_at: float
    expires_at: float | None = Field(
        None, description="When the finished session is deleted with its images; null while it runs, or if it is kept."
    )
    queue: QueueView | None = Field(None, description="While the session is queued; always null in lists.")
    limits: LimitsView
    seed: int
    user: str | None
    metadata: dict[str, str]
    finish_reason: FinishReason | None
    best: CandidateRef | None
    results: list[CandidateRef]
    unchanged: bool = Field(
        default=False,
        exclude_if=lambda unchanged: not unchanged,
        description="Whether the best candidate is the source: nothing was changed.",
    )
    preferred: bool | None = Field(
        default=None,
        exclude_if=lambda preferred: preferred is None,
        description="Whether the judge prefers the best candidate to the unedited source; left out where it was not asked.",
    )
    preparation: PreparationView | None = Field(
        default=None,
        exclude_if=lambda preparation: preparation is None,
        description="Left out where nothing rewrites, and in lists.",
    )
    comparisons: list[ComparisonView] = Field(default=[], exclude_if=lambda comparisons: not comparisons)
    scores: ScoresView | None
    rating: int | None = Field(
        default=None,
        exclude_if=lambda rating: rating is None,
        description="1 to 5, by a person; left out where nobody rated it, and in answers to other requests than `GET`.",
    )
    revised_prompt: str | None
    checklist: list[ChecklistQuestion] = Field(description="Always empty in lists.")
    turns: list[TurnView] = Field(description="Always empty in lists; `totals.turns` is their number.")
    totals: Totals
    error: Failure | None
    last_event: int
    source: ImageView
    references: list[ImageView] = Field(description="The other pictures that were sent, in their order.")
    mask: ImageView | None
    urls: Urls
    ignored: list[str] = Field(
        default=[],
        exclude_if=lambda names: not names,
        description="In the answer to its creation: fields of the request that are not honoured, where the server is lenient.",
    )


class SessionList(BaseModel):
    """A page of sessions, newest first."""

    object: Literal["list"] = "list"
    data: list[SessionView]
    unreadable: list[str] = Field(
        default_factory=list,
        description="Ids of sessions of this page of which nothing can be read; they can be cancelled and deleted.",
    )
    next_cursor: str | None


def show(
    session_id: str,
    session: Session,
    last_event: int,
    position: QueuePosition | None = None,
    *,
    kept_s: float | None = None,
    ignored: tuple[str, ...] = (),
) -> SessionView:
    """The session as the API shows it.

    Args:
        position: where it is queued.
        kept_s: seconds from its end until it is deleted; None if never.
        ignored: fields of the request that created it which are not honoured.
    """
    created, finished = session.created, session.finished
    path = f"/v1/sessions/{session_id}"
    top = finished.best if finished else best(session)
    chosen = session.candidate(top) if top else None
    results = list(finished.results) if finished else [c.ref for c in ranking(session)][: created.results]
    return SessionView(
        id=session_id,
        status=session.status,
        instruction=created.instruction,
        editor=created.editor,
        thinker=created.thinker,
        judge=created.judge or created.thinker,
        strategy=created.strategy,
        draft=created.draft,
        reject_early=created.reject_early,
        review=created.review,
        created_at=created.at,
        finished_at=finished.at if finished else None,
        deadline_at=created.limits.deadline_at,
        expires_at=finished.at + kept_s if finished and kept_s is not None else None,
        queue=QueueView(ahead=position.ahead, wait_s=position.wait_s) if position else None,
        limits=LimitsView.model_validate(created.limits.model_dump()),
        seed=created.seed,
        user=created.user,
        metadata=created.metadata,
        finish_reason=finished.reason if finished else None,
        best=top,
        results=results,
        unchanged=bool(chosen and chosen.unchanged),
        preferred=finished.preferred if finished else preferred(session, top),
        preparation=_preparation(session),
        comparisons=[_compared(each) for each in session.comparisons if isinstance(each, Compared)],
        scores=scores_of(chosen),
        revised_prompt=session.turns[top.turn - 1].instruction if top else None,
        checklist=list(session.checklist.questions),
        turns=[
            TurnView(
                turn=turn.number,
                instruction=turn.instruction,
                author=turn.author,
                candidates=[_candidate(path, candidate) for candidate in turn.candidates],
                draft=turn.draft,
                renders=turn.renders,
            )
            for turn in session.turns
        ],
        totals=session.totals,
        error=finished.error if finished else None,
        last_event=last_event,
        source=_input(created, created.source, f"{path}/source"),
        references=[_input(created, image, f"{path}/references/{place}") for place, image in enumerate(created.references, 1)],
        mask=_image(created.mask, f"{path}/mask") if created.mask else None,
        urls=Urls(
            self=path, events=f"{path}/events", cancel=f"{path}/cancel", feedback=f"{path}/feedback", image=f"{path}/image"
        ),
        ignored=list(ignored),
    )


def show_unreadable(session_id: str, session: Session, last_event: int, *, finished: bool) -> SessionView:
    """A session as it was before the first event that cannot be read, with an error that says so."""
    error = Failure(
        code="session_unreadable", message="later events of this session cannot be read by this version of the server"
    )
    view = show(session_id, session, last_event).model_copy(update={"error": error})
    return view.model_copy(update={"status": "failed", "finish_reason": "failed"}) if finished else view


def summary(session_id: str, session: Session, last_event: int, *, kept_s: float | None = None) -> SessionView:
    """A session in a list: without its turns and its checklist."""
    return in_list(show(session_id, session, last_event, kept_s=kept_s))


def without_private(view: SessionView) -> SessionView:
    """A session as a guest sees it: without the names that its caller gave it."""
    return view.model_copy(update={"user": None, "metadata": {}})


def in_list(view: SessionView) -> SessionView:
    """A session without what lists leave out."""
    return view.model_copy(update={"turns": [], "checklist": [], "comparisons": [], "preparation": None})


_POLL_S: Final[dict[str, int]] = {"running": 2, "cancelling": 1, "awaiting_review": 10}
_LONGEST_POLL_S: Final = 30


def poll_after_s(view: SessionView) -> int | None:
    """Seconds after which it makes sense to ask for the session again; None once it is finished."""
    if view.status == "queued":
        return round(min(max(1.0, view.queue.wait_s or 1.0), _LONGEST_POLL_S)) if view.queue else 1
    return _POLL_S.get(view.status)


def scores_of(candidate: Candidate | None) -> ScoresView | None:
    """A candidate's scores, rounded; None while it has none."""
    if candidate is None or candidate.scores is None:
        return None
    return _scores(candidate.scores)


def _scores(scores: Scores) -> ScoresView:
    return ScoresView(
        semantic=round(scores.semantic, 3),
        quality=round(scores.quality, 3),
        overall=round(scores.overall, 3),
        semantic_spread=round(scores.semantic_spread, 3),
        quality_spread=round(scores.quality_spread, 3),
    )


def answer_path(session_id: str, candidate: Candidate) -> str:
    """The path of a result's picture."""
    path = f"/v1/sessions/{session_id}/turns/{candidate.turn}/candidates/{candidate.number}"
    return f"{path}/{'answer' if candidate.scaled else 'image'}"


def _preparation(session: Session) -> PreparationView | None:
    if session.created.preparer is None:
        return None
    known = session.preparation
    return PreparationView(
        preparer=session.created.preparer,
        instruction=known.instruction,
        error=known.error,
        thinker_seconds=round(known.thinker_seconds, 4),
    )


def _compared(event: Compared) -> ComparisonView:
    reasoning = event.reasoning or None
    return ComparisonView(first=event.first, second=event.second, winner=event.winner, by=event.by, reasoning=reasoning)


def _candidate(path: str, candidate: Candidate) -> CandidateView:
    image, outside = candidate.image, candidate.outside_mask
    url = f"{path}/turns/{candidate.turn}/candidates/{candidate.number}"
    return CandidateView(
        candidate=candidate.number,
        status=_status(candidate),
        seed=candidate.seed,
        image=_image(image, f"{url}/image", candidate.carried) if image else None,
        answer=_image(candidate.scaled, f"{url}/answer") if candidate.scaled else None,
        unchanged=candidate.unchanged,
        not_understood=list(candidate.not_understood),
        preview=_preview(candidate, f"{url}/preview"),
        outside_mask=OutsideMaskView(**outside.model_dump()) if outside else None,
        alpha=candidate.alpha,
        scores=scores_of(candidate),
        critiques=[_scores(scores) for scores in candidate.critiques] if len(candidate.critiques) > 1 else [],
        reasoning=candidate.reasoning or None,
        answers=list(candidate.answers),
        places=list(candidate.places),
        outside_places=OutsideMaskView(**moved.model_dump()) if (moved := candidate.outside_places) else None,
        refined_instruction=candidate.refined_instruction,
        refinement_reasoning=candidate.refinement_reasoning or None,
        error=candidate.edit_error or candidate.critique_error,
        editor_seconds=round(candidate.editor_seconds, 4),
        thinker_seconds=round(candidate.thinker_seconds, 4),
    )


def _preview(candidate: Candidate, url: str) -> PreviewView | None:
    image, seen = candidate.preview, candidate.preview_scores
    return None if image is None else PreviewView(**image.model_dump(), url=url, scores=_scores(seen) if seen else None)


def _image(image: ImageRef, url: str, carried: Carried | None = None) -> ImageView:
    if carried is None:
        return ImageView(**image.model_dump(), url=url)
    told = CarriedView(digital_source_type=carried.source_type, c2pa=carried.c2pa, reasons=list(carried.reasons))
    return ImageView(**image.model_dump(), url=url, carried=told)


def _input(created: SessionCreated, image: ImageRef, url: str) -> ImageView:
    return _image(image, url, created.carried.get(image.sha256))


def _status(candidate: Candidate) -> CandidateStatus:
    if candidate.scores:
        return "critiqued"
    if candidate.image:
        return "unscored" if candidate.critique_error else "edited"
    if candidate.editing:
        return "editing"
    if candidate.rejected:
        return "rejected"
    if candidate.edit_error and candidate.edit_error.code == SUPERSEDED:
        return "stopped"
    return "failed" if candidate.edit_error else "planned"


def error_schema() -> dict[str, Any]:
    """OpenAI's error body as an OpenAPI schema."""
    text = {"type": "string"}
    maybe = {"type": ["string", "null"]}
    properties = {"message": text, "type": text, "param": maybe, "code": maybe}
    error = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
