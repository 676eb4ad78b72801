"""What every editing pipeline is to the service.

An edit is opened, advanced piece by piece, and closed. The executor decides whose turn it is; the pipeline does the work.
Families whose work cannot be divided are `Whole` and run through `services.editor.pipelines.whole.OneByOne`.

    PipelineError           what a pipeline may say of itself
      OutOfMemoryError           the device has no room for this advance of these edits
      PipelineBrokenError        no further edit is possible; the process must be replaced
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from PIL import Image


class PipelineError(Exception):
    """A pipeline could not do what it was asked, for a reason that lies in the device and not in the request."""


class OutOfMemoryError(PipelineError):
    """The device has not enough memory for an advance. No edit is lost: fewer at a time may go on.

    ``edits`` are those that it was not enough for; all that were asked for if there are none. Each stands where it stood, or,
    where the pipeline could not keep it, at its beginning: it is not ``started`` any more.
    """

    def __init__(self, message: str = "", edits: Sequence[Edit] = ()) -> None:
        super().__init__(message)
        self.edits = tuple(edits)


class PipelineBrokenError(PipelineError):
    """The pipeline cannot do any further edit (a lost device, a poisoned context): its process must be replaced."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a numeric parameter may take, both ends included, and the one used when none is given."""

    low: float
    high: float
    default: float
    whole: bool = False

    def admits(self, value: float) -> bool:
        """Whether ``value`` lies in the range (and is a whole number where it must be)."""
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a pipeline family can honour. A request that asks for more is refused, never half done.

    ``parameters`` maps the API's extension names (``num_inference_steps``, ``guidance_scale``) to their ranges; a name
    that is absent is refused. ``negative_prompt_needs`` names the parameter without which (at 1 or below) a negative
    prompt would have no effect. ``max_images`` counts input pictures, ``partial_images`` previews of one edit.
    """

    mask: bool = False
    negative_prompt: bool = False
    negative_prompt_needs: str | None = None
    resize: bool = True
    max_images: int = 1
    partial_images: int = 0
    parameters: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditJob:
    """One picture to edit.

    ``image`` is RGB or RGBA; ``source`` names its content (a digest), so that what depends on it alone can be remembered,
    and is empty if it must not be. ``mask``, where given, has the image's size: its alpha is 0 where the edit may act (an
    opaque mode without alpha is read as white = edit). ``size`` is (width, height) of the result, None for the
    source's. ``seed`` decides everything that is random. ``parameters`` holds what the capabilities declare.
    ``previews`` is how many unfinished pictures are wanted on the way. ``source_size`` is (width, height) of the source as it
    was sent, where `Pipeline.prepare` has made ``image`` smaller.
    """

    image: Image.Image
    prompt: str
    seed: int = 0
    mask: Image.Image | None = None
    negative_prompt: str | None = None
    size: tuple[int, int] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    previews: int = 0
    source_size: tuple[int, int] | None = None

    def with_seed(self, seed: int) -> EditJob:
        """The same job with another seed."""
        return replace(self, seed=seed)


@dataclass(frozen=True, slots=True)
class EditResult:
    """The edited picture and an honest account of what was done.

    ``applied`` lists the operations carried out, ``not_understood`` the phrases of the prompt that were not.
    """

    image: Image.Image
    applied: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class Edit(Protocol):
    """One edit under way. Only the executor's thread touches it.

    Attributes:
        started: whether its first advance (which encodes text and picture) is done.
        group: edits whose groups are equal can be advanced together; None until started, and for one that must be alone.
        cost: what its next advance asks of the device, in tokens; the limit of a batch is counted in the same.
        calls, calls_done: how many advances it takes after the first one, and how many of them are done (an estimate).
        steps, step: denoise steps in all, and done.
        preview: an unfinished picture that nobody has taken yet.
        timings: seconds of its stages (``encode``, ``denoise``, ``decode``), as far as they are known.
        result, error: one of them is set when it is over.
    """

    started: bool
    group: Hashable | None
    cost: int
    calls: int
    calls_done: int
    steps: int
    step: int
    preview: Image.Image | None
    timings: dict[str, float]
    result: EditResult | None
    error: Exception | None


class Pipeline(Protocol):
    """An editing family. Everything but `prepare`, `finish` and the properties is called on one thread."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the family can honour."""
        ...

    @property
    def warm_up(self) -> EditJob:
        """A job that goes through every path of the pipeline once; run before the worker is ready."""
        ...

    @property
    def stoppable(self) -> bool:
        """Whether an edit takes several advances, so that it can be stopped, or set aside, in between."""
        ...

    @property
    def most_active(self) -> int | None:
        """How many edits may be started at a time, however much memory there is; None: any number."""
        ...

    def prepare(self, job: EditJob) -> EditJob:
        """What can be done to a job without the device; on any thread."""
        ...

    def open(self, job: EditJob) -> Edit:
        """An edit of this job, not yet started; costs nothing."""
        ...

    def advance(self, edits: Sequence[Edit]) -> None:
        """Start one edit, or take each of several of one group one call further.

        An edit that fails sets its ``error`` and harms no other.

        Raises:
            OutOfMemoryError: for the edits that it names; the others may have been advanced.
            PipelineBrokenError: this pipeline is of no use any more.
        """
        ...

    def close(self, edit: Edit) -> None:
        """Drop whatever the edit holds, wherever it stands."""
        ...

    def reclaim(self) -> None:
        """Give back what memory can be given back: caches, and the allocator's reserve."""
        ...

    def memory(self) -> tuple[int, int] | None:
        """(bytes free, most bytes allocated since the last call) of the device; None where it is not measured."""
        ...

    def figures(self) -> Mapping[str, float]:
        """What the pipeline counts, by the name of the metric; on any thread."""
        ...

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        """What can be done to a result without the device; on any thread."""
        ...


class Whole(Protocol):
    """A family whose edit is one indivisible piece of work."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the family can honour."""
        ...

    @property
    def warm_up(self) -> EditJob:
        """A job that goes through every path of the family once."""
        ...

    def edit(self, job: EditJob) -> EditResult:
        """Edit one picture. Raises ``ValueError`` when the job asks for what the capabilities do not declare."""
        ...
