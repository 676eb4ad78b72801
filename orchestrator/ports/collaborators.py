"""Ports to editors, thinkers and time: protocols, and the values that go through them."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from orchestrator.loop.events import Alpha, ChecklistAnswer, ChecklistQuestion, Choosing, ImageRef, OutsideMask, Place, Winner
from orchestrator.ports.origins import Origin
from services.imaging.codec import CheckedImage
from services.imaging.shapes import Fit
from services.protocol.critique.messages import Judgement


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that is loaded when it is sent, so that thousands of queued edits hold none in memory."""

    ref: ImageRef
    load: Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class RequestTiming:
    """The editor time of one HTTP request. It is updated as the request proceeds, so that a cancelled edit has its cost too.

    Attributes:
        sent_at: when the request body was sent; no editor worked on it before (monotonic clock).
        finished_at: when the response came, the connection broke, or the request was given up.
        reported_s: editor seconds that are more exact than the clock: as the editor reported, or 0 if it did not accept it.
        unanswered_s: the most that counts without an answer: what this editor usually takes.
    """

    sent_at: float = math.inf
    finished_at: float = math.inf
    reported_s: float | None = None
    unanswered_s: float = math.inf

    @property
    def seconds(self) -> float:
        """Editor seconds until now."""
        if self.reported_s is not None:
            return self.reported_s
        return max(0.0, min(self.finished_at, time.monotonic(), self.sent_at + self.unanswered_s) - self.sent_at)


class EditorUsage:
    """The editor time of one edit, over all its requests: retries, and those to a fallback."""

    def __init__(self) -> None:
        self._requests: list[RequestTiming] = []

    def start_request(self) -> RequestTiming:
        """The timing of another request."""
        self._requests.append(RequestTiming())
        return self._requests[-1]

    @property
    def seconds(self) -> float:
        """Editor seconds until now."""
        return sum(request.seconds for request in self._requests)


def image_ref(image: CheckedImage) -> ImageRef:
    """How events name an image."""
    return ImageRef(
        sha256=image.sha256, media_type=image.media_type, bytes=len(image.data), width=image.width, height=image.height
    )


@dataclass(frozen=True, slots=True)
class EditOrder:
    """One edit: source (with its references and mask), instruction, seed, the caller's options for the editor.

    Attributes:
        key: idempotency key, globally unique.
        timeout_s: seconds after which the result is of no use.
        later: whether it is of a session's second or later turn; of one tenant such edits go first, so that sessions that have
            begun are completed.
        start_s: seconds after which it no longer waits for a slot, since it would miss the deadline.
        session_id: the session it belongs to.
        tenant: whose session that is.
        fit: how a picture comes to the size in the options.
        alpha: whether a pixel of the source is not opaque.
        boxes: what the critique that refined the instruction points at; for editors that take boxes.
        draft: whether a small picture of fewer steps is enough; editors that make none edit in full.
        on_preview: is handed an unfinished picture while the edit runs, by editors that have one.
    """

    source: StoredImage
    mask: StoredImage | None
    instruction: str
    seed: int
    key: str
    timeout_s: float
    options: Mapping[str, Any] = field(default_factory=dict)
    later: bool = False
    start_s: float = math.inf
    session_id: str = ""
    tenant: str = ""
    references: tuple[StoredImage, ...] = ()
    fit: Fit = "cover"
    alpha: bool = False
    boxes: tuple[Place, ...] = ()
    draft: bool = False
    on_preview: Callable[[CheckedImage], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class EditReply:
    """An edited image, and the timings that the editor reported.

    Attributes:
        outside_mask: what it changed outside the order's mask, where that was measured.
        replayed: whether it is the stored response to an earlier request with the same key.
        editor: the name of the fallback that made it, if one did.
        alpha: what became of the source's transparency, if it has any.
        unchanged: whether it has the source's pixels.
        not_understood: what of the instruction the editor says it did not carry out.
        trained: whether a trained model made it, as far as is known.
        origin: what the file said of its origin, as it came.
    """

    image: CheckedImage
    timings: Mapping[str, float] = field(default_factory=dict)
    replayed: bool = False
    editor: str | None = None
    outside_mask: OutsideMask | None = None
    alpha: Alpha | None = None
    unchanged: bool = False
    not_understood: tuple[str, ...] = ()
    trained: bool = True
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True)
class CritiqueOrder:
    """One critique of a candidate.

    Attributes:
        instruction: the caller's.
        turn_instruction: the one that the candidate was made with.
        timeout_s: seconds it may take.
        questions: the session's checklist, if it has one.
        tenant: whose session it is.
        references: the pictures that the instruction may refer to.
        mask: where the candidate may differ from the source.
        outside_mask: what the candidate changed elsewhere.
        outside_places: how it differs from the candidate that it was to improve, outside of the places that were pointed at.
        prompt_tokens: how many tokens of an instruction the editor reads, where that is known.
        number: how often the judge was asked about this candidate, this time included. Its answer must not be a repetition.
        judgement: another judge's. It is told to a thinker that is asked for the next instruction alone: its own scores of this
            candidate do not count.
    """

    source: StoredImage
    candidate: StoredImage
    instruction: str
    turn_instruction: str
    timeout_s: float
    questions: tuple[ChecklistQuestion, ...] = ()
    tenant: str = ""
    references: tuple[StoredImage, ...] = ()
    mask: StoredImage | None = None
    outside_mask: OutsideMask | None = None
    prompt_tokens: int | None = None
    number: int = 1
    outside_places: OutsideMask | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True, slots=True)
class CompareOrder:
    """A comparison of two edited pictures, or of one with the unedited source, against the caller's instruction.

    Attributes:
        timeout_s: seconds it may take.
    """

    source: StoredImage
    first: StoredImage
    second: StoredImage
    instruction: str
    timeout_s: float
    tenant: str = ""
    references: tuple[StoredImage, ...] = ()
    mask: StoredImage | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the thinker reported them; `cached_tokens` are those of the prompt found in its prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class CritiqueReply:
    """A judge's critique of a candidate.

    Attributes:
        refined_instruction: the instruction for the next turn; None to keep the current one.
        answers: to the checklist, if the session has one.
        places: what it points at in the candidate's picture.
        samples: usable replies; the scores are their means, the spreads their standard deviations.
        thinker: the name of the fallback that replied, if one did.
        repaired: whether the thinker was asked to rewrite an unreadable reply.
        text: the reply that the texts are from, as it came; None for a judge whose scores are not one reply.
        prompt: `CritiquePrompt.digest` of the request.
    """

    semantic: float
    quality: float
    reasoning: str
    refined_instruction: str | None
    usage: Usage = field(default_factory=Usage)
    answers: tuple[ChecklistAnswer, ...] = ()
    samples: int = 1
    semantic_spread: float = 0.0
    quality_spread: float = 0.0
    thinker: str | None = None
    repaired: bool = False
    places: tuple[Place, ...] = ()
    text: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class CritiquePrompt:
    """The messages of a critique's request, with its pictures as they are shown to the thinker.

    Attributes:
        messages: of the chat completion; the URL of a picture is its place in `pictures`, as text.
        digest: of the messages with the pictures' sizes in place of their URLs, 32 hex digits.
    """

    messages: Sequence[Mapping[str, Any]]
    pictures: Sequence[StoredImage]
    digest: str


@dataclass(frozen=True, slots=True)
class CompareReply:
    """A judge's preference; a tie where it depends on the order in which it sees the pictures."""

    winner: Winner
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)
    thinker: str | None = None
    """The name of the fallback that replied, if one did."""


_CASES: Final = ("untouched", "black", "swapped")
_MARGIN: Final = 1.0
"""Points of 10 by which the good edit's overall score must exceed each of the others."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of asking a judge about a small fixed set, in which a good edit is to be told from three other pictures.

    Attributes:
        margins: by case, the points by which the good edit was scored higher; None for a judge that does not score.
        preferences: by case, 1 where the good edit was preferred in both orders, 0 for a tie, -1 for the other; None for a judge
            that does not compare.
    """

    margins: Mapping[str, float] | None = None
    preferences: Mapping[str, int] | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The cases that it could not tell from the good edit."""
        return tuple(
            case
            for case in _CASES
            if (self.margins is not None and self.margins[case] < _MARGIN)
            or (self.preferences is not None and self.preferences[case] < 1)
        )


@dataclass(frozen=True, slots=True)
class ChecklistOrder:
    """The order to write a session's checklist, from the caller's pictures and instruction."""

    source: StoredImage
    instruction: str
    timeout_s: float
    tenant: str = ""
    references: tuple[StoredImage, ...] = ()
    mask: StoredImage | None = None


@dataclass(frozen=True, slots=True)
class ChecklistReply:
    """The questions that the critiques of a session will answer."""

    questions: tuple[ChecklistQuestion, ...]
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class PrepareOrder:
    """The order to rewrite the caller's instruction for an editor.

    Attributes:
        timeout_s: seconds it may take.
        prompt_tokens: how many tokens of an instruction the editor reads, where that is known.
    """

    source: StoredImage
    instruction: str
    timeout_s: float
    tenant: str = ""
    references: tuple[StoredImage, ...] = ()
    mask: StoredImage | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PrepareReply:
    """The rewritten instruction.

    Attributes:
        thinker: the name of the fallback that replied, if one did.
    """

    instruction: str
    usage: Usage = field(default_factory=Usage)
    thinker: str | None = None


class Editor(Protocol):
    """An image editor."""

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        """Edit once, adding its requests to `usage`; raises `EditorError`."""
        ...

    async def ready(self) -> bool:
        """Whether it accepts requests now."""
        ...


@runtime_checkable
class Judge(Protocol):
    """A model that scores edited pictures."""

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """Critique a candidate; raises `ThinkerError`."""
        ...

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        """Write a session's checklist; raises `ThinkerError`."""
        ...

    async def ready(self) -> bool:
        """Whether it accepts requests now."""
        ...


@runtime_checkable
class Prompting(Protocol):
    """A model whose critiques are one reply to one request, which can be made again."""

    async def critique_prompt(self, order: CritiqueOrder, by: str | None = None) -> CritiquePrompt:
        """The request for a critique, as it is configured now; raises `ThinkerError`.

        Args:
            by: the fallback that is to be asked; None for the model itself.
        """
        ...


class Thinker(Judge, Protocol):
    """A vision-language model whose critiques refine the instruction. It judges too, where a session has no other judge."""


@runtime_checkable
class Comparer(Protocol):
    """A judge that sees two edited pictures side by side. It asks in both orders; where the answers differ, it is a tie."""

    async def compare(self, order: CompareOrder) -> CompareReply:
        """Compare; raises `ThinkerError`."""
        ...

    async def ready(self) -> bool:
        """Whether it accepts requests now."""
        ...


@runtime_checkable
class Preparer(Protocol):
    """A model that rewrites an instruction for an editor."""

    async def prepare(self, order: PrepareOrder) -> PrepareReply:
        """Rewrite; raises `ThinkerError`."""
        ...


class Clock(Protocol):
    """A clock."""

    def now(self) -> float:
        """Unix seconds."""
        ...


SESSIONS_THINKER: Final = "thinker"
"""In place of a preparer's name: the thinker of the session rewrites."""


@dataclass(frozen=True, slots=True)
class EditorCapabilities:
    """What a configured editor accepts: extension fields by name, a mask, a seed, and how many pictures.

    Attributes:
        mask: None until an editor that is to tell this has answered once.
        images: the source and its references, likewise.
        fallback: the name of its fallback.
        loras: the LoRAs that it and its fallback take; None where they have not told.
        preparer: the name of the model that rewrites instructions for it, or `SESSIONS_THINKER`.
        prepare: whether it does unless a request says otherwise.
        draft: whether it makes drafts; None until it has answered once.
        previews: whether it sends unfinished pictures of an edit; None until it has answered once.
        deterministic: whether an instruction makes the same picture with every seed.
    """

    parameters: frozenset[str]
    mask: bool | None
    seed: bool = True
    images: int | None = 1
    fallback: str | None = None
    loras: frozenset[str] | None = None
    preparer: str | None = None
    prepare: bool = False
    draft: bool | None = False
    previews: bool | None = False
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The configured editors, thinkers and judges that callers can name, the defaults first.

    Attributes:
        judges: those that are no thinkers; a thinker can be named as a judge too.
        default_judge: the judge when none is named; None is the session's thinker.
        comparing: thinkers and judges that compare two pictures side by side.
        not_scoring: judges that do nothing else.
        unfit: by thinker or judge, what it could not tell from a good edit, where such judges are refused.
        by_checklist: thinkers and judges that score by a checklist.
        choosing: what a session that begins now knows of the noise of a thinker or judge (the first argument), from sessions of
            its tenant (the second); None for those that are asked once.
        aliases: further names of editors, and the editor of each.
        thinker_images: by thinker or judge, the pictures that one request may hold; others take any number.
    """

    editors: Mapping[str, EditorCapabilities]
    thinkers: tuple[str, ...]
    by_checklist: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    thinker_images: Mapping[str, int] = field(default_factory=dict)
    choosing: Callable[[str, str], Choosing | None] = lambda *_: None
    judges: tuple[str, ...] = ()
    default_judge: str | None = None
    comparing: frozenset[str] = frozenset()
    not_scoring: frozenset[str] = frozenset()
    unfit: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
