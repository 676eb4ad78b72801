"""The API's responses. Unknown fields are kept, so that a newer server works with an older client."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses of a session that no longer changes."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class Scores(_Model):
    """The judge's scores, each from 0 to 10.

    Attributes:
        semantic: how far the instruction was followed.
        quality: how free of defects the picture is.
        overall: the geometric mean of the two.
    """

    semantic: float
    quality: float
    overall: float


class Carried(_Model):
    """What a picture from outside said of its own origin: its Digital Source Type, what its C2PA manifest is worth, and why."""

    digital_source_type: str | None = None
    c2pa: str | None = None
    reasons: list[str] = []


class ImageRef(_Model):
    """An image the server keeps: its digest, type, size, where to fetch it, and what it said of its origin as it came."""

    sha256: str
    media_type: str
    bytes: int
    width: int
    height: int
    url: str | None = None
    carried: Carried | None = None


class CandidateRef(_Model):
    """One candidate of one turn, both numbered from 1."""

    turn: int
    candidate: int


class Failure(_Model):
    """Why something failed: a stable code and a sentence."""

    code: str
    message: str


class OutsideMask(_Model):
    """What an edit changed outside the session's mask.

    Attributes:
        changed: share (0 to 1) of the picture outside the mask that changed visibly.
        difference: mean difference there, in levels of 255.
    """

    changed: float
    difference: float


class Box(_Model):
    """A box that a critique points at, and a word for what is there.

    Attributes:
        left, top, right, bottom: on a grid of 0 to 1000 across the candidate's picture.
    """

    left: int
    top: int
    right: int
    bottom: int
    word: str = ""


class Preview(ImageRef):
    """The unfinished picture of an edit, by which it may be rejected early; `scores` is None where it was not critiqued."""

    scores: Scores | None = None


class Candidate(_Model):
    """One edit of the source image in a turn, and its critique.

    Attributes:
        outside_mask: what it changed outside the mask; None without one, or where it was not measured.
        status: ``planned | editing | edited | critiqued | unscored | rejected | stopped | failed``.
        answer: of a result whose image was scaled to the answer's size: that picture.
        unchanged: whether it has the source's pixels.
        not_understood: what of the instruction the editor says it did not carry out.
        preview: its unfinished picture, in a session with `reject_early`.
        refined_instruction: what the thinker proposes for the next turn; None when it proposes no change.
        refinement_reasoning: what it said about that, where another judge scored the candidate.
        scores: the means of its critiques.
        critiques: the scores of each, where the judge was asked more than once.
        places: what its critique points at in the picture.
        outside_places: how it differs from the candidate that it was to improve, outside of what was pointed at there.
    """

    candidate: int
    status: str
    seed: int | None = None
    image: ImageRef | None = None
    answer: ImageRef | None = None
    unchanged: bool = False
    not_understood: list[str] = []
    preview: Preview | None = None
    outside_mask: OutsideMask | None = None
    scores: Scores | None = None
    critiques: list[Scores] = []
    reasoning: str | None = None
    places: list[Box] = []
    outside_places: OutsideMask | None = None
    refined_instruction: str | None = None
    refinement_reasoning: str | None = None
    error: Failure | None = None
    editor_seconds: float | None = None
    thinker_seconds: float | None = None


class Comparison(_Model):
    """Two pictures that the judge compared.

    Attributes:
        second: None is the unedited source.
        winner: ``first | second | tie``.
        by: ``pair``, side by side, or ``scores``, each alone.
    """

    first: CandidateRef
    second: CandidateRef | None = None
    winner: str
    by: str | None = None
    reasoning: str | None = None


class Preparation(_Model):
    """How the instruction was rewritten for the editor before the first edit.

    Attributes:
        preparer: the model that was asked.
        instruction: the rewritten instruction; None until it is there, and if that failed.
        error: why the latest attempt failed; the first turn then has the caller's own words.
    """

    preparer: str
    instruction: str | None = None
    error: Failure | None = None
    thinker_seconds: float = 0.0


class Turn(_Model):
    """One turn: an instruction, and one or more edits made with it.

    Attributes:
        author: who wrote the instruction: ``caller | preparer | thinker | person``.
        draft: whether its pictures are drafts: small, and of fewer steps.
        renders: the draft that its candidate is in full.
    """

    turn: int
    instruction: str
    author: str
    candidates: list[Candidate] = []
    draft: bool = False
    renders: CandidateRef | None = None


class Totals(_Model):
    """What a session has used so far."""

    turns: int = 0
    edits: int = 0
    editor_seconds: float = 0.0
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Session(_Model):
    """One request to edit one source image.

    Attributes:
        status: ``queued | running | awaiting_review | cancelling | succeeded | failed | cancelled``.
        finish_reason: ``satisfied | unchanged | max_turns | plateau | deadline | budget | accepted | cancelled | failed``,
            or None while the session runs.
        best: the candidate that is the session's answer so far.
        results: the best candidates, best first, when more than one was asked for.
        revised_prompt: the instruction that made the best candidate.
        unchanged: whether the best candidate is the source: nothing was changed.
        preferred: whether the judge prefers the best candidate to the unedited source; None where it was not asked.
        preparation: how its instruction was rewritten for the editor; None where nothing rewrites.
        metadata: the pairs that its caller gave it.
        expires_at: when it is deleted, in Unix seconds; None while it runs, or if it is kept.
        rating: 1 to 5, by a person; None where nobody rated it.
        last_event: the sequence number of the newest event, to continue the event stream after.
        source, references, mask: the pictures that were sent.
    """

    id: str
    status: str
    instruction: str
    editor: str
    thinker: str | None = None
    judge: str | None = None
    strategy: str | None = None
    draft: bool = False
    unchanged: bool = False
    review: str | None = None
    created_at: float | None = None
    finished_at: float | None = None
    deadline_at: float | None = None
    expires_at: float | None = None
    metadata: dict[str, str] = {}
    limits: dict[str, Any] = {}
    finish_reason: str | None = None
    best: CandidateRef | None = None
    results: list[CandidateRef] = []
    scores: Scores | None = None
    preferred: bool | None = None
    rating: int | None = None
    preparation: Preparation | None = None
    comparisons: list[Comparison] = []
    revised_prompt: str | None = None
    turns: list[Turn] = []
    totals: Totals = Totals()
    error: Failure | None = None
    last_event: int = 0
    source: ImageRef | None = None
    references: list[ImageRef] = []
    mask: ImageRef | None = None
    urls: dict[str, Any] = {}

    @property
    def ended(self) -> bool:
        """Whether the session has ended."""
        return self.status in ENDED

    def at(self, ref: CandidateRef) -> Candidate | None:
        """The candidate with these numbers, or None."""
        for turn in self.turns:
            for candidate in turn.candidates:
                if (turn.turn, candidate.candidate) == (ref.turn, ref.candidate):
                    return candidate
        return None


class ListPage(_Model, Generic[Item]):
    """One page of a list; ``next_cursor`` asks for the next, None after the last."""

    data: list[Item]
    next_cursor: str | None = None


class SessionPage(ListPage[Session]):
    """One page of sessions."""


class JudgedPicture(_Model):
    """A picture that a person judged, and who made it; everything but its session and digest is None for a source.

    Attributes:
        sha256: digest of the picture as the editor made it.
        judge: who scored it.
    """

    session_id: str
    sha256: str
    turn: int | None = None
    candidate: int | None = None
    editor: str | None = None
    thinker: str | None = None
    judge: str | None = None
    strategy: str | None = None


class Preference(_Model):
    """What a person prefers: of two pictures (``a``, ``b``, ``choice``), or how good a session is (``session_id``, ``rating``).

    Attributes:
        choice: ``a | b | tie | skip``.
        rating: 1 to 5.
        label: what was compared, in its caller's words.
    """

    id: str
    created_at: float
    a: JudgedPicture | None = None
    b: JudgedPicture | None = None
    choice: str | None = None
    session_id: str | None = None
    rating: int | None = None
    label: str | None = None
    reason: str | None = None


class PreferencePage(ListPage[Preference]):
    """One page of preferences."""


class Event(_Model):
    """One thing that happened in a session. Fields that not every event carries are None where they are absent.

    Attributes:
        seq: the event's number in its session, 1 and up without gaps; 0 for a live update that is not stored.
        type: ``session_created``, ``prepare_started``, ``prepared``, ``prepare_failed``, ``turn_started``, ``edit_started``,
            ``edited``, ``edit_failed``, ``critiqued``, ``critique_failed``, ``verified``, ``verify_failed``, ``compared``,
            ``compare_failed``, ``review_requested``, ``feedback_given``, ``cancel_requested``, ``finished``; and ``reset``, when
            the server has lost what it sent, which is followed by all events again;
            a newer server may send others.
        at: seconds since the epoch.
        reason: the finish reason, of ``finished``.
    """

    type: str
    seq: int = 0
    at: float | None = None
    turn: int | None = None
    candidate: int | None = None
    instruction: str | None = None
    author: str | None = None
    semantic: float | None = None
    quality: float | None = None
    reasoning: str | None = None
    reason: str | None = None
    best: CandidateRef | None = None
    code: str | None = None
    message: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The whole event as the server sent it."""
        return self.model_dump(exclude_unset=True)


class _Image(_Model):
    b64_json: str | None = None
    turn: int | None = None
    candidate: int | None = None

    @property
    def image(self) -> bytes:
        """The encoded picture.

        Raises:
            ValueError: for ``response_format="url"``, with which the response holds a link only.
        """
        if self.b64_json is None:
            message = "the response has a link only; fetch url, or leave response_format out"
            raise ValueError(message)
        return base64.b64decode(self.b64_json)

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, as it is."""
        target = Path(path)
        target.write_bytes(self.image)
        return target


class ImageData(_Image):
    """One image of an edit, as base64 or as a link, and the turn and candidate that it is.

    Attributes:
        revised_prompt: the instruction that made it.
    """

    url: str | None = None
    revised_prompt: str | None = None
    scores: Scores | None = None


class ImageEvent(_Image):
    """One image of a streamed edit: a candidate, before it is scored, or a result.

    Attributes:
        type: ``image_edit.partial_image`` or ``image_edit.completed``.
        instruction, revised_prompt: that made a partial image, or a result.
    """

    type: str
    partial_image_index: int | None = None
    instruction: str | None = None
    revised_prompt: str | None = None
    session_id: str | None = None
    scores: Scores | None = None
    turns: int | None = None
    edits: int | None = None
    finish_reason: str | None = None


class ImagesResponse(_Model):
    """The response of ``images.edit``: the images, best first, and the session that made them."""

    created: int
    data: list[ImageData]
    output_format: str | None = None
    size: str | None = None
    session_id: str | None = None
    scores: Scores | None = None
    turns: int | None = None
    edits: int | None = None
    finish_reason: str | None = None
    unchanged: bool = False
    totals: Totals | None = None


class IptcMark(_Model):
    """IPTC's Digital Source Type in XMP; `error` is why XMP of the file was not read."""

    digital_source_type: str | None = None
    error: str | None = None


class Manifest(_Model):
    """The active C2PA manifest of a picture.

    Attributes:
        state: ``trusted | valid | invalid | unread``.
        reasons: what does not validate, as C2PA's codes.
        generator: who made it.
        actions: what was done, as ``{"action", "software", "digital_source_type"}``.
        ingredients: what the picture was made of, with ``state`` and ``reasons`` of their own manifests.
    """

    state: str
    reasons: list[str] = []
    generator: str | None = None
    signed_by: str | None = None
    signed_at: str | None = None
    actions: list[dict[str, Any]] = []
    ingredients: list[dict[str, Any]] = []


class Training(_Model):
    """Whether sessions may be used for training."""

    training: Literal["allowed", "denied"]


class CritiqueRequest(_Model):
    """The chat request that a critique answered, pictures as data URLs, and the text of the reply as it came."""

    session_id: str
    seq: int
    messages: list[dict[str, Any]]
    reply: str


class Provenance(_Model):
    """What a picture says of its origin, and what the server knows of it.

    Attributes:
        says_ai: whether a mark says that a trained model made it or a part of it.
        tampered: signs that marks or pixels were changed after they were marked, in words.
        made_here: ``yes`` or ``not known``.
    """

    says_ai: bool
    iptc: IptcMark | None = None
    c2pa: Manifest | None = None
    tampered: list[str] = []
    made_here: str


class Webhook(_Model):
    """A URL that is notified of events of your sessions.

    Attributes:
        secret: signs what it gets; only in the responses that create or rotate it.
    """

    id: str
    url: str
    events: list[str] = []
    description: str = ""
    created_at: float | None = None
    disabled: bool = False
    secret: str | None = None
    previous_secret_until: float | None = None


class Attempt(_Model):
    """One request to a webhook: its status, or why there was none."""

    at: float
    status: int | None = None
    error: str | None = None


class WebhookTest(_Model):
    """The result of a test of a webhook."""

    delivered: bool
    attempt: Attempt


class Delivery(_Model):
    """One event on its way to one webhook.

    Attributes:
        state: ``pending | delivered | failed | dropped``.
    """

    id: str
    state: str
    attempts: list[Attempt] = []


class Share(_Model):
    """A link with which people without a key look at one session.

    Attributes:
        token, url: only in what created it; `url` is relative to the server.
        expires_at: Unix seconds.
    """

    id: str
    session_id: str
    created_at: float
    expires_at: float
    token: str | None = None
    url: str | None = None


class WebhookData(_Model):
    """The session that a webhook is about; fetch the rest with ``sessions.get``."""

    id: str
    status: str | None = None
    finish_reason: str | None = None
    metadata: dict[str, str] = {}


class WebhookEvent(_Model):
    """What a webhook was sent.

    Attributes:
        id: the same in every attempt at this event; use it to drop duplicates.
        type: ``session.finished``, ``session.awaiting_review``, or ``webhook.test``.
        timestamp: when it happened, in ISO 8601.
    """

    id: str
    type: str
    timestamp: str | None = None
    data: WebhookData


class ModelCard(_Model):
    """An editor, a thinker or a judge that the server knows."""

    id: str
    object: str = "model"
    owned_by: str | None = None


class Readiness(_Model):
    """Whether the server can take work. What is missing, if anything, is among the extra fields."""

    ready: bool


@dataclass(frozen=True, slots=True)
class EditOutcome:
    """A finished session and its best picture.

    Attributes:
        session: the session as it ended.
        image: the encoded picture.
        media_type: of the picture, such as ``image/png``.
    """

    session: Session
    image: bytes
    media_type: str

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, as it is. Give ``edit`` a ``format`` to have it encoded otherwise."""
        target = Path(path)
        target.write_bytes(self.image)
        return target
