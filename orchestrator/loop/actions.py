"""What `orchestrator.loop.policy.decide` can decide: the actions, and the jobs of `Work`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.loop.events import Author, CandidateRef, Failure, FinishReason, ImageRef


@dataclass(frozen=True, slots=True)
class StartTurn:
    """Record a new turn with this instruction, this many candidates, and seeds from `first_seed` on.

    Attributes:
        draft: whether it makes drafts.
        renders: the draft that it edits in full.
    """

    turn: int
    instruction: str
    author: Author
    candidates: int
    first_seed: int
    draft: bool = False
    renders: CandidateRef | None = None


@dataclass(frozen=True, slots=True)
class EditJob:
    """Make one candidate, always from the source image.

    Attributes:
        key: idempotency key within the session; the same after a crash and for every attempt.
        started: whether the intent is recorded already.
        allowance_s: editor seconds of the session's budget that are reserved for it; None is no limit. An edit that takes
            longer is finished, since its seconds are spent already, but no other is started then.
        draft: whether it is made at a lower area and with fewer steps.
    """

    turn: int
    candidate: int
    attempt: int
    key: str
    instruction: str
    seed: int
    started: bool
    allowance_s: float | None
    draft: bool = False


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """Let the judge score the unfinished picture of an edit that is running."""

    turn: int
    candidate: int
    attempt: int
    instruction: str
    image: ImageRef


@dataclass(frozen=True, slots=True)
class CritiqueJob:
    """Critique one candidate, which was made with `instruction`."""

    turn: int
    candidate: int
    attempt: int
    instruction: str
    image: ImageRef


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """Critique a candidate once more, for the `number`th time."""

    turn: int
    candidate: int
    number: int
    attempt: int
    instruction: str
    image: ImageRef


@dataclass(frozen=True, slots=True)
class CompareJob:
    """Compare a candidate with another one, or with the unedited source (None)."""

    first: CandidateRef
    second: CandidateRef | None
    attempt: int


@dataclass(frozen=True, slots=True)
class PrepareJob:
    """Rewrite the caller's instruction for the editor, before the first turn.

    Attributes:
        started: whether its `prepare_started` is recorded.
    """

    attempt: int
    started: bool = False


@dataclass(frozen=True, slots=True)
class RefineJob:
    """Let the thinker write the next instruction for a candidate that another judge scored."""

    turn: int
    candidate: int
    attempt: int
    instruction: str
    image: ImageRef


@dataclass(frozen=True, slots=True)
class ChecklistJob:
    """Write the session's checklist, while the first edits are made."""

    attempt: int


Job = EditJob | CritiqueJob | ChecklistJob | VerifyJob | CompareJob | RefineJob | PrepareJob | PreviewJob
_KINDS: Final[dict[type[Job], str]] = {
    EditJob: "edit",
    CritiqueJob: "critique",
    ChecklistJob: "checklist",
    VerifyJob: "verify",
    CompareJob: "compare",
    RefineJob: "refine",
    PrepareJob: "prepare",
    PreviewJob: "preview",
}


def kind_of(job: Job) -> str:
    """What a job does, in a word."""
    return _KINDS[type(job)]


@dataclass(frozen=True, slots=True)
class Work:
    """The jobs that should be running now: start those that are not, and cancel others."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class RejectEdit:
    """Record that a running edit is stopped, since it cannot become the best."""

    turn: int
    candidate: int


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
    preferred: bool | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """The session is finished."""


Action = StartTurn | Work | RejectEdit | AskReview | Wait | Finish | Rest
