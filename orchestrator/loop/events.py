"""The events of a session. Their list is the session: there is no other state.

Events are frozen, versioned and JSON. The store keeps their order as sequence numbers 1, 2, 3 …; `at` is when the event was
recorded, in Unix seconds. Progress within an edit is streamed live only, and is not an event.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

VERSION: Final = 4
"""The latest version of a log. Version 2 is that of sessions with references: a server that does not know them would edit and
judge without them (docs/decisions/0115). Version 3 is that of sessions with `choosing`: a server that does not know it would
end them by other rules (docs/decisions/0160), and of those with a `preparer` (docs/decisions/0174). Version 4 is that of sessions
with `draft`, where it would answer with a draft (docs/decisions/0171), and with a judge of their own, where it would let the
thinker judge (docs/decisions/0164). All other sessions are of version 1.
"""
SEEDS: Final = 2**31
"""Seeds are 0 to SEEDS - 1: the range that editors accept."""
SUPERSEDED: Final = "session_cancelled"
"""The code of an edit that was stopped because its result was no longer needed."""
TOO_LATE: Final = "deadline_exceeded"
"""The code of an edit that was not started, since it could not be finished by the deadline."""

ManifestState = Literal["trusted", "valid", "invalid", "unread"]
Alpha = Literal["kept", "dropped"]
Strategy = Literal["think", "single", "best_of_n", "think_best_of_n", "adaptive"]
Review = Literal["never", "each_turn", "before_finish"]
Author = Literal["caller", "preparer", "thinker", "person"]
FeedbackAction = Literal["accept", "pick", "instruct", "go_on"]
Winner = Literal["first", "second", "tie"]
FinishReason = Literal["satisfied", "unchanged", "max_turns", "plateau", "deadline", "budget", "accepted", "cancelled", "failed"]


class _Frozen(BaseModel):
    # A newer replica may write fields that this one does not know: a rolling upgrade must not stop sessions.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageRef(_Frozen):
    """An image in the blob store, by its digest; width and height are in pixels."""

    sha256: str
    media_type: str
    bytes: int
    width: int
    height: int


class OutsideMask(_Frozen):
    """What an edit changed outside its mask, as `services.imaging.masks.outside` measures it.

    Attributes:
        changed: share (0 to 1) of the picture outside the mask that changed visibly.
        difference: mean difference there, in levels of 255.
    """

    changed: float
    difference: float


class Place(_Frozen):
    """A box that a critique points at, and a word for what is there.

    Attributes:
        left, top, right, bottom: on a grid of 0 to 1000 across the candidate's picture.
    """

    left: int = Field(ge=0, le=1000)
    top: int = Field(ge=0, le=1000)
    right: int = Field(ge=0, le=1000)
    bottom: int = Field(ge=0, le=1000)
    word: str = ""


class Carried(_Frozen):
    """What a picture from outside said of its own origin, which its stored form no longer says.

    Attributes:
        source_type: its Digital Source Type, by its XMP or its C2PA manifest.
        c2pa: what its manifest is worth; None if it has none, `unread` if it was not read.
        reasons: what does not validate, or why it was not read.
        manifest: digest of its manifests as they are kept in the session's folder; None if they are not.
        bytes: of that.
    """

    source_type: str | None = None
    c2pa: ManifestState | None = None
    reasons: tuple[str, ...] = ()
    manifest: str | None = None
    bytes: int = 0


class CandidateRef(_Frozen):
    """A candidate of a turn, both counted from 1."""

    turn: int
    candidate: int


class Limits(_Frozen):
    """The limits at which a session ends by itself.

    Attributes:
        max_turns: turns without feedback of a person.
        candidates: edits of one instruction in a turn, each with its own seed.
        semantic_threshold, quality_threshold: scores (0-10) that a candidate must both reach to satisfy.
        patience: consecutive turns without a better candidate, after which the loop stops.
        deadline_at: Unix seconds after which no job is started and running jobs are cancelled.
        budget_edits: edits started in total, retries included; None is no limit.
        budget_editor_s: editor seconds after which no edit is started; None is no limit.
        edit_attempts, critique_attempts: attempts at one edit or critique.
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


class Choosing(_Frozen):
    """What a session knows of its judge's noise, and how much it may spend against it. Sessions without one trust single scores.

    Attributes:
        noise: standard deviation of one score around the judge's own mean for that picture, in points of 10, as it was measured
            when the session began.
        weight: how many repeated scores that measurement is worth; the session's own are added to it.
        confirmations: further critiques of one candidate at most.
        compares: whether the judge compares two pictures side by side.
    """

    noise: float = Field(ge=0, le=10)
    weight: float = Field(gt=0)
    confirmations: int = Field(ge=1)
    compares: bool = False


class Failure(_Frozen):
    """The reason of a failure: a code of the error table, and a sentence."""

    code: str
    message: str


class Totals(_Frozen):
    """The cost of a session so far."""

    turns: int = 0
    edits: int = 0
    editor_seconds: float = 0.0
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ChecklistQuestion(_Frozen):
    """A question about the edited image: about what should change, what should stay, or its quality."""

    kind: Literal["change", "keep", "quality"]
    text: str


class ChecklistAnswer(_Frozen):
    """A thinker's answer to the question of that number."""

    number: int
    kind: Literal["change", "keep", "quality"]
    answer: Literal["yes", "partly", "no"]
    reason: str


class _Event(_Frozen):
    at: float


class SessionCreated(_Event):
    """One request to edit one source image."""

    type: Literal["session_created"] = "session_created"
    version: int = Field(default=1, le=VERSION)
    """A log of a later version is one that this version cannot read: it would continue it wrongly."""
    source: ImageRef
    references: tuple[ImageRef, ...] = Field(default=(), exclude_if=lambda references: not references)
    """Pictures that the instruction may refer to, in the caller's order; left out where there are none, as in version 1."""
    mask: ImageRef | None = None
    instruction: str
    editor: str
    thinker: str
    judge: str | None = Field(default=None, exclude_if=lambda judge: judge is None)
    """Who judges in place of the thinker; left out where the thinker does, as in earlier versions."""
    judge_scores: bool = Field(default=True, exclude_if=lambda scores: scores)
    """Whether that judge scores pictures; one that does not only compares them, and the thinker scores."""
    strategy: Strategy = "think"
    review: Review = "never"
    limits: Limits
    results: int = Field(default=1, ge=1)
    """Candidates to return; the session makes at least this many if its limits allow."""
    seed: int = Field(default=0, ge=0)
    editor_options: dict[str, Any] = Field(default_factory=dict)
    """Fields passed to the editor unchanged (size, negative_prompt, num_inference_steps …)."""
    checklist: bool = False
    """Whether candidates are scored by a checklist, written once before the first critique."""
    user: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict, exclude_if=lambda metadata: not metadata)
    """The caller's own pairs; left out where there are none, as earlier versions wrote the event."""
    fit: Literal["cover", "contain"] = Field(default="cover", exclude_if=lambda fit: fit == "cover")
    """How a picture of another shape comes to the size in the editor's options; the source has its shape already."""
    alpha: bool = Field(default=False, exclude_if=lambda alpha: not alpha)
    """Whether a pixel of the source is not opaque."""
    choosing: Choosing | None = Field(default=None, exclude_if=lambda choosing: choosing is None)
    """Left out in sessions that trust single scores, as those of earlier versions do."""
    preparer: str | None = Field(default=None, exclude_if=lambda preparer: preparer is None)
    """The configured preparer, or the thinker, that rewrites the instruction before the first edit; left out where none does."""
    draft: bool = Field(default=False, exclude_if=lambda draft: not draft)
    """Whether turns make drafts, and the winner is rendered: edited in full at the end."""
    deterministic: bool = Field(default=False, exclude_if=lambda deterministic: not deterministic)
    """Whether the editor makes the same picture of an instruction with every seed."""
    reject_early: bool = Field(default=False, exclude_if=lambda reject: not reject)
    """Whether the judge scores an unfinished picture of each edit, and edits that cannot become the best are stopped."""
    carried: dict[str, Carried] = Field(default_factory=dict, exclude_if=lambda carried: not carried)
    """What the source and the references said of their origin, by their digests; those that said nothing are left out."""
    tenant: str = "default"
    training: str | None = Field(default=None, exclude_if=lambda grant: grant is None)
    """The tenant's grant of use for training under which it was made; left out where it had none or the request denied it, and in
    earlier versions.
    """

    @property
    def input_bytes(self) -> int:
        """Bytes of what is stored of the caller's."""
        return sum(image.bytes for image in self.inputs) + sum(each.bytes for each in self.carried.values())

    @property
    def scorer(self) -> str:
        """Who scores candidates, and writes the checklist."""
        return self.judge if self.judge and self.judge_scores else self.thinker

    @property
    def comparer(self) -> str:
        """Who compares two pictures, if it can."""
        return self.judge or self.thinker

    @property
    def inputs(self) -> tuple[ImageRef, ...]:
        """The caller's pictures: the source, its references, and the mask if there is one."""
        return (self.source, *self.references, *([self.mask] if self.mask else []))


class PrepareStarted(_Event):
    """The preparer is asked to rewrite the instruction; recorded first, so that the session is seen to run."""

    type: Literal["prepare_started"] = "prepare_started"
    attempt: int


class Prepared(_Event):
    """The caller's instruction was rewritten for the editor: `instruction` makes the first turn. Critiques measure against the
    caller's own.
    """

    type: Literal["prepared"] = "prepared"
    instruction: str
    thinker: str | None = None
    """The fallback that replied, if one did."""
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class PrepareFailed(_Event):
    """An attempt at rewriting the instruction failed; without one, the caller's own makes the first turn."""

    type: Literal["prepare_failed"] = "prepare_failed"
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class TurnStarted(_Event):
    """A turn: one instruction, edited `candidates` times with the seeds `first_seed`, `first_seed` + 1 …, modulo `SEEDS`."""

    type: Literal["turn_started"] = "turn_started"
    turn: int
    instruction: str
    author: Author
    candidates: int
    first_seed: int
    draft: bool = Field(default=False, exclude_if=lambda draft: not draft)
    """Whether its edits are at a lower area and with fewer steps."""
    renders: CandidateRef | None = Field(default=None, exclude_if=lambda renders: renders is None)
    """The draft that this turn edits in full, with its instruction and seed."""


class EditStarted(_Event):
    """The intent to edit, recorded before the request; `key` makes a retry after a crash idempotent."""

    type: Literal["edit_started"] = "edit_started"
    turn: int
    candidate: int
    attempt: int
    key: str
    seed: int
    allowance_s: float | None = None
    """Editor seconds of the session's budget that are reserved for this edit."""


class Edited(_Event):
    """A candidate was made; its image was stored before this event was recorded.

    `image` may be smaller than the answer, as the editor's model made it (decision 151). `repeated`: an earlier driver had
    requested the same edit, and it was made a second time. `editor`: the fallback that made it, if one did. `outside_mask`: what
    it changed outside the session's mask; None without one, or where it was not measured. `alpha`: what became of the
    source's transparency; left out where the source has none.
    """

    type: Literal["edited"] = "edited"
    turn: int
    candidate: int
    image: ImageRef
    editor_seconds: float
    timings: dict[str, float] = Field(default_factory=dict)
    repeated: bool = False
    editor: str | None = None
    outside_mask: OutsideMask | None = Field(default=None, exclude_if=lambda outside: outside is None)
    alpha: Alpha | None = Field(default=None, exclude_if=lambda alpha: alpha is None)
    unchanged: bool = Field(default=False, exclude_if=lambda unchanged: not unchanged)
    """Whether it has the source's pixels; left out where it has not, as earlier versions wrote the event."""
    not_understood: tuple[str, ...] = Field(default=(), exclude_if=lambda phrases: not phrases)
    """What of the instruction the editor says it did not carry out."""
    trained: bool = Field(default=True, exclude_if=lambda trained: trained)
    """Whether a trained model made it; left out where one did, and in earlier versions."""
    carried: Carried | None = Field(default=None, exclude_if=lambda carried: carried is None)
    """What the editor's file said of its origin; left out where it said nothing."""


class EditFailed(_Event):
    """An attempt at an edit failed."""

    type: Literal["edit_failed"] = "edit_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    editor_seconds: float = 0.0


class Previewed(_Event):
    """A running edit has an unfinished picture, which was stored before this event was recorded."""

    type: Literal["previewed"] = "previewed"
    turn: int
    candidate: int
    image: ImageRef


class PreviewCritiqued(_Event):
    """The judge scored the unfinished picture of an edit. `instruction` is the refined instruction, where the judge is the
    thinker; it is used if the edit is rejected.
    """

    type: Literal["preview_critiqued"] = "preview_critiqued"
    turn: int
    candidate: int
    semantic: float
    quality: float
    instruction: str | None = None
    thinker: str | None = None
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class PreviewFailed(_Event):
    """The critique of an unfinished picture failed; it is not tried again, and the edit goes on."""

    type: Literal["preview_failed"] = "preview_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class EditRejected(_Event):
    """An edit whose unfinished picture promises less than the best so far is stopped; `edit_failed` follows with its seconds."""

    type: Literal["edit_rejected"] = "edit_rejected"
    turn: int
    candidate: int


class ChecklistMade(_Event):
    """The session's checklist was written; every critique answers its questions."""

    type: Literal["checklist_made"] = "checklist_made"
    questions: tuple[ChecklistQuestion, ...]
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ChecklistFailed(_Event):
    """An attempt at the checklist failed; without one, critiques answer general questions."""

    type: Literal["checklist_failed"] = "checklist_failed"
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class Critiqued(_Event):
    """A candidate was critiqued. `instruction` is the refined instruction; None keeps the turn's.

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
    places: tuple[Place, ...] = Field(default=(), exclude_if=lambda places: not places)
    """What it points at in the picture; left out where it does not, as earlier versions wrote the event."""
    outside_places: OutsideMask | None = Field(default=None, exclude_if=lambda outside: outside is None)
    """How the candidate differs from the one that it was to improve, outside of the places which that one's critique points at,
    as the judge was told; left out where none were.
    """
    thinker: str | None = None
    """The fallback that replied, if one did."""
    repaired: bool = False
    """Whether the thinker was asked to rewrite an unreadable reply."""
    reply: str | None = Field(default=None, exclude_if=lambda reply: reply is None)
    """The thinker's reply as it came, in sessions that may be used for training; left out in others, and where it is too long."""
    prompt: str | None = Field(default=None, exclude_if=lambda prompt: prompt is None)
    """A digest of the request that it answered, with the sizes of its pictures in their place; left out as `reply` is."""
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class CritiqueFailed(_Event):
    """An attempt at a critique failed; the candidate stays unscored unless another attempt succeeds."""

    type: Literal["critique_failed"] = "critique_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class Verified(_Event):
    """A candidate was critiqued again: before it is called satisfying, or because another one is about as good.

    Its scores are the means of all its critiques. `instruction` is the refined instruction of this one, None for the turn's; the
    strictest critique of a candidate refines the next turn, since it names what is missing.
    """

    type: Literal["verified"] = "verified"
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
    places: tuple[Place, ...] = Field(default=(), exclude_if=lambda places: not places)
    thinker: str | None = None
    repaired: bool = False
    reply: str | None = Field(default=None, exclude_if=lambda reply: reply is None)
    """The thinker's reply as it came, in sessions that may be used for training; left out in others, and where it is too long."""
    prompt: str | None = Field(default=None, exclude_if=lambda prompt: prompt is None)
    """A digest of the request that it answered, with the sizes of its pictures in their place; left out as `reply` is."""
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class VerifyFailed(_Event):
    """An attempt at a further critique failed; without one, the earlier ones count."""

    type: Literal["verify_failed"] = "verify_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class Compared(_Event):
    """The judge compared two pictures.

    Attributes:
        first, second: candidates; `second` is None for the unedited source.
        winner: a tie where the judge preferred neither in both orders, or scored both the same.
        by: whether it saw both side by side, or scored each alone.
    """

    type: Literal["compared"] = "compared"
    first: CandidateRef
    second: CandidateRef | None = None
    winner: Winner
    by: Literal["pair", "scores"]
    reasoning: str = ""
    thinker: str | None = None
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class CompareFailed(_Event):
    """An attempt at a comparison failed; without one, the scores decide."""

    type: Literal["compare_failed"] = "compare_failed"
    first: CandidateRef
    second: CandidateRef | None = None
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class Refined(_Event):
    """The thinker wrote the next instruction for a candidate that another judge had scored; None keeps the turn's."""

    type: Literal["refined"] = "refined"
    turn: int
    candidate: int
    instruction: str | None
    reasoning: str = ""
    thinker: str | None = None
    """The fallback that replied, if one did."""
    repaired: bool = False
    reply: str | None = Field(default=None, exclude_if=lambda reply: reply is None)
    """The thinker's reply as it came, in sessions that may be used for training; left out in others, and where it is too long."""
    prompt: str | None = Field(default=None, exclude_if=lambda prompt: prompt is None)
    """A digest of the request that it answered, with the sizes of its pictures in their place; left out as `reply` is."""
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class RefineFailed(_Event):
    """An attempt at the next instruction failed; without one, that of the next best candidate or the same one is tried."""

    type: Literal["refine_failed"] = "refine_failed"
    turn: int
    candidate: int
    attempt: int
    code: str
    message: str
    retryable: bool
    thinker_seconds: float = 0.0


class ReviewRequested(_Event):
    """The loop waits for a review. `reason` is why it would finish now; None if it would continue."""

    type: Literal["review_requested"] = "review_requested"
    turn: int
    best: CandidateRef | None
    reason: FinishReason | None = None


class FeedbackGiven(_Event):
    """A person's feedback: accept the best, pick a candidate, give a new instruction, or continue."""

    type: Literal["feedback_given"] = "feedback_given"
    action: FeedbackAction
    turn: int | None = None
    candidate: int | None = None
    instruction: str | None = None
    by: str = "caller"


class CancelRequested(_Event):
    """Cancellation was requested."""

    type: Literal["cancel_requested"] = "cancel_requested"
    by: str = "caller"


class Finished(_Event):
    """The session finished. `best` is the answer, `results` the n best, with it first; both are empty if there is no image.

    `scaled` has a picture for each result whose candidate is smaller than the answer should be, stored before this event was
    recorded; None for others, and left out if it would have no picture.
    """

    type: Literal["finished"] = "finished"
    reason: FinishReason
    best: CandidateRef | None
    results: tuple[CandidateRef, ...] = ()
    scaled: tuple[ImageRef | None, ...] = Field(default=(), exclude_if=lambda scaled: not any(scaled))
    error: Failure | None = None
    preferred: bool | None = Field(default=None, exclude_if=lambda preferred: preferred is None)
    """Whether the judge prefers `best` to the unedited source; left out where it was not asked."""
    totals: Totals


Event = Annotated[
    SessionCreated
    | Prepared
    | PrepareFailed
    | PrepareStarted
    | TurnStarted
    | EditStarted
    | Edited
    | EditFailed
    | Previewed
    | PreviewCritiqued
    | PreviewFailed
    | EditRejected
    | Critiqued
    | CritiqueFailed
    | Verified
    | VerifyFailed
    | Compared
    | CompareFailed
    | Refined
    | RefineFailed
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
        pydantic.ValidationError: if it is not one of these events.
    """
    return _ADAPTER.validate_json(data)
