"""What can happen in a session. The list of these events is the session: there is no other state.

Events are frozen, versioned and JSON. The order of a session's events, its sequence numbers 1, 2, 3 …, is kept by
the store; `at` is when the event was recorded, in Unix seconds. Progress inside an edit is live only, not an event.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

VERSION: Final = 1
SEEDS: Final = 2**31
"""How many seeds there are: those that editors take and callers may ask for."""
SUPERSEDED: Final = "session_cancelled"
"""The code of an edit that was stopped because its result was no longer needed."""
TOO_LATE: Final = "deadline_exceeded"
"""The code of an edit that was not begun, since it could not be done by the deadline."""

Strategy = Literal["think", "single", "best_of_n", "think_best_of_n"]
Review = Literal["never", "each_turn", "before_finish"]
Author = Literal["caller", "thinker", "person"]
FeedbackAction = Literal["accept", "pick", "instruct", "go_on"]
FinishReason = Literal["satisfied", "max_turns", "plateau", "deadline", "budget", "accepted", "cancelled", "failed"]


class _Frozen(BaseModel):
    # A newer replica may write fields that this one does not know; a rolling upgrade must not stop sessions.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageRef(_Frozen):
    """An image by its name in the blob store, with what its header says (width and height in pixels)."""

    sha256: str
    media_type: str
    bytes: int
    width: int
    height: int


class CandidateRef(_Frozen):
    """Which candidate of which turn, both counted from 1."""

    turn: int
    candidate: int


class Limits(_Frozen):
    """When a session ends by itself.

    Attributes:
        max_turns: turns the loop takes without a person's word.
        candidates: edits of one instruction in a turn, each with its own seed.
        semantic_threshold, quality_threshold: both scores (0-10) at which a candidate satisfies.
        patience: completed turns in a row without a better candidate, after which the loop gives up.
        deadline_at: Unix seconds after which nothing is started and what is running is dropped.
        budget_edits: edits started in all, repeats after failures included; None is no limit.
        budget_editor_s: editor seconds after which no edit is started; None is no limit.
        edit_attempts, critique_attempts: times one edit or critique is tried.
    """

    max_turns: int = Field(default=5, ge=1)
    candidates: int = Field(default=1, ge=1)
    semantic_threshold: float = Field(default=8.0, ge=0, le=10)
    quality_threshold: float = Field(default=8.0, ge=0, le=10)
    patience: int = Field(default=2, ge=1)
    deadline_at: float
    budget_edits: int | None = Field(default=None, ge=1)
    budget_editor_s: float | None = Field(default=None, gt=0)
    edit_attempts: int = Field(default=2, ge=1)
    critique_attempts: int = Field(default=3, ge=1)


class Failure(_Frozen):
    """Why something was not done: a code of the error table, and a sentence."""

    code: str
    message: str


class Totals(_Frozen):
    """What a session has cost so far."""

    turns: int = 0
    edits: int = 0
    editor_seconds: float = 0.0
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ChecklistQuestion(_Frozen):
    """A yes/no question about the edited picture: what was to change, what was to stay, or how sound it is."""

    kind: Literal["change", "keep", "quality"]
    text: str


class ChecklistAnswer(_Frozen):
    """What a thinker answered to a question, by its number."""

    number: int
    kind: Literal["change", "keep", "quality"]
    answer: Literal["yes", "partly", "no"]
    reason: str


class _Event(_Frozen):
    at: float


class SessionCreated(_Event):
    """One request to edit one source image."""

    type: Literal["session_created"] = "session_created"
    version: int = VERSION
    source: ImageRef
    mask: ImageRef | None = None
    instruction: str
    editor: str
    thinker: str
    strategy: Strategy = "think"
    review: Review = "never"
    limits: Limits
    results: int = Field(default=1, ge=1)
    """How many candidates the caller wants back; the session makes at least so many if its limits allow."""
    seed: int = Field(default=0, ge=0)
    editor_options: dict[str, Any] = Field(default_factory=dict)
    """Fields passed on to the editor as they are (size, negative_prompt, num_inference_steps …)."""
    checklist: bool = False
    """Whether the thinker judges by a checklist, which is written once, before the first critique."""
    user: str | None = None
    tenant: str = "default"


class TurnStarted(_Event):
    """A turn: one instruction, edited `candidates` times with the seeds `first_seed`, `first_seed` + 1 …, modulo `SEEDS`."""

    type: Literal["turn_started"] = "turn_started"
    turn: int
    instruction: str
    author: Author
    candidates: int
    first_seed: int


class EditStarted(_Event):
    """The intent to edit, recorded before the editor is asked; `key` makes a repeat after a crash harmless."""

    type: Literal["edit_started"] = "edit_started"
    turn: int
    candidate: int
    attempt: int
    key: str
    seed: int
    allowance_s: float | None = None
    """Editor seconds of the session's budget that are promised to this edit."""


class Edited(_Event):
    """A candidate exists; its image was stored before this was recorded.

    `repeated`: an earlier driver had asked for it too, and it was made a second time. `editor`: which one made it, where it
    was the fallback of the session's own.
    """

    type: Literal["edited"] = "edited"
    turn: int
    candidate: int
    image: ImageRef
    editor_seconds: float
    timings: dict[str, float] = Field(default_factory=dict)
    repeated: bool = False
    editor: str | None = None


class EditFailed(_Event):
    """An attempt at an edit brought no image."""

    type: Literal["edit_failed"] = "edit_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    editor_seconds: float = 0.0


class ChecklistMade(_Event):
    """The questions that every critique of the session answers."""

    type: Literal["checklist_made"] = "checklist_made"
    questions: tuple[ChecklistQuestion, ...]
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ChecklistFailed(_Event):
    """An attempt at a checklist brought none; without one, critiques answer general questions."""

    type: Literal["checklist_failed"] = "checklist_failed"
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class Critiqued(_Event):
    """The thinker's reply on a candidate. `instruction` is None where it leaves the instruction as it is.

    With `samples` above 1 the scores are means, and the spreads their standard deviations.
    """

    type: Literal["critiqued"] = "critiqued"
    turn: int
    candidate: int
    semantic: float
    quality: float
    reasoning: str
    instruction: str | None
    answers: tuple[ChecklistAnswer, ...] = ()
    samples: int = 1
    semantic_spread: float = 0.0
    quality_spread: float = 0.0
    thinker: str | None = None
    """Which one answered, where it was not the session's own but its fallback."""
    repaired: bool = False
    """Whether the thinker had to be asked to write its reply again."""
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class CritiqueFailed(_Event):
    """An attempt at a critique brought none; the candidate stays unscored unless another attempt succeeds."""

    type: Literal["critique_failed"] = "critique_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class ReviewRequested(_Event):
    """The loop waits for a person. `reason` is why it would finish now, None where it would go on."""

    type: Literal["review_requested"] = "review_requested"
    turn: int
    best: CandidateRef | None
    reason: FinishReason | None = None


class FeedbackGiven(_Event):
    """A person's word: accept the best, pick a candidate, give a new instruction, or let the thinker go on."""

    type: Literal["feedback_given"] = "feedback_given"
    action: FeedbackAction
    turn: int | None = None
    candidate: int | None = None
    instruction: str | None = None
    by: str = "caller"


class CancelRequested(_Event):
    """Somebody wants the session to stop."""

    type: Literal["cancel_requested"] = "cancel_requested"
    by: str = "caller"


class Finished(_Event):
    """The end. `best` is the answer, `results` the n best with it first; both empty when there is no image."""

    type: Literal["finished"] = "finished"
    reason: FinishReason
    best: CandidateRef | None
    results: tuple[CandidateRef, ...] = ()
    error: Failure | None = None
    totals: Totals


Event = Annotated[
    SessionCreated
    | TurnStarted
    | EditStarted
    | Edited
    | EditFailed
    | Critiqued
    | CritiqueFailed
    | ChecklistMade
    | ChecklistFailed
    | ReviewRequested
    | FeedbackGiven
    | CancelRequested
    | Finished,
    Field(discriminator="type"),
]

_ADAPTER: Final[TypeAdapter[Event]] = TypeAdapter(Event)


def dump(event: Event) -> bytes:
    """An event as JSON."""
    return event.model_dump_json().encode()


def load(data: bytes | str) -> Event:
    """An event from JSON.

    Raises:
        pydantic.ValidationError: when it is none of ours, or of a later version.
    """
    return _ADAPTER.validate_json(data)
