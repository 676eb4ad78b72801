"""The protocol between the editor service and its pipelines.

An edit is opened, advanced call by call, and closed. The executor schedules; the pipeline computes. Families whose edit is one
indivisible call implement `SingleStepFamily` and run as a `services.editor.pipelines.single_step.SingleStepPipeline`.

    PipelineError           the device failed, not the request
      OutOfMemoryError      not enough memory for this advance of these edits
      PipelineBrokenError   no further edit is possible; the process must be replaced
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from PIL import Image


class PipelineError(Exception):
    """The device failed, through no fault of the request."""


class OutOfMemoryError(PipelineError):
    """The device has not enough memory for an advance. No edit is lost: fewer at a time may continue.

    Attributes:
        edits: those that did not fit; empty if none of the advance did. Each is in the state before the advance, or, where the
            pipeline could not keep that, back at its beginning and no longer ``started``.
    """

    def __init__(self, message: str = "", edits: Sequence[Edit] = ()) -> None:
        super().__init__(message)
        self.edits = tuple(edits)


class PipelineBrokenError(PipelineError):
    """No further edit is possible (a lost device, a corrupted CUDA context): the process must be replaced."""


@dataclass(frozen=True, slots=True)
class Range:
    """The allowed values of a numeric parameter, both ends included, and its default."""

    low: float
    high: float
    default: float
    whole: bool = False

    def admits(self, value: float) -> bool:
        """Whether ``value`` lies in the range (and is a whole number where it must be)."""
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())

    @property
    def words(self) -> str:
        """As ``1 to 50``, or the only value."""
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """A LoRA that an edit is made with, by its registered name, and its strength."""

    name: str
    scale: float


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """How fast a pipeline runs, and at what cost in exactness, as its operator chose.

    Attributes:
        preset: ``exact``, ``fast`` or ``turbo``.
        applied: options of loading and running that are in effect, by name.
        left_out: what the preset has and this model or device does not, with the reason.
    """

    preset: str = "exact"
    applied: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a pipeline family supports. A request that asks for more is refused.

    Attributes:
        mask: whether a mask may be given.
        negative_prompt: whether a negative prompt may be given.
        negative_prompt_needs: the parameter that must be above 1 for a negative prompt to have an effect.
        resize: whether another size than the source's may be requested.
        max_images: input pictures: the source and its references.
        partial_images: previews of one edit.
        parameters: ranges of the API's extensions by name (``num_inference_steps``, ``guidance_scale``); others are refused.
        special_tokens: what the model's tokenizers read as their own marks; a prompt that spells one is refused.
        prompt_tokens: how many tokens of a prompt, or of a negative prompt, the model reads; a longer one is refused.
            None: any number.
        loras: the LoRAs that a request may name, with their default strengths.
        native_pixels: the area (width x height) at which it edits, before the picture is scaled to the answer's size; None for a
            pipeline that edits at that size.
        boxes: whether a prompt may end with boxes as JSON, ``[{"bbox": [top, left, bottom, right], "label": …}]`` from 0 to 1000.
        draft: whether an edit at a lower area and with fewer steps may be requested.
        deterministic: whether a prompt makes the same picture with every seed.
        trained: whether a trained model makes its pictures, which are then marked as edited by generative AI.
        speed: how the pipeline runs.
    """

    mask: bool = False
    negative_prompt: bool = False
    negative_prompt_needs: str | None = None
    resize: bool = True
    max_images: int = 1
    partial_images: int = 0
    parameters: Mapping[str, Range] = field(default_factory=dict)
    special_tokens: frozenset[str] = frozenset()
    prompt_tokens: int | None = None
    loras: Mapping[str, float] = field(default_factory=dict)
    native_pixels: int | None = None
    boxes: bool = False
    draft: bool = False
    deterministic: bool = False
    trained: bool = True
    speed: SpeedReport = field(default_factory=SpeedReport)


@dataclass(frozen=True, slots=True)
class EditJob:
    """One picture to edit.

    Attributes:
        image: the source, RGB or RGBA.
        prompt: the instruction.
        seed: determines everything random.
        mask: of the image's size; alpha is 0 where the edit may act (in a mode without alpha, white is where it may act).
        negative_prompt: what the picture should not show.
        size: (width, height) of the result; None: the source's.
        parameters: values of parameters that the capabilities declare.
        source: digest of the source as it was sent; empty if what is made of the pictures must not be kept.
        previews: number of unfinished pictures to produce on the way.
        source_size: (width, height) of the source as sent, where `Pipeline.prepare` has reduced ``image``.
        references: pictures that the prompt may refer to, in the caller's order.
        original: the source as it must stay where the mask is closed; set by `Pipeline.prepare`.
        lora: of those that the capabilities name.
        native_size: return the picture as the pipeline made it, not scaled to ``size`` or the source's.
        draft: edit at a lower area and with fewer steps; returned at its native size.
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
    references: tuple[Image.Image, ...] = ()
    original: Image.Image | None = None
    lora: LoraChoice | None = None
    native_size: bool = False
    draft: bool = False

    def with_seed(self, seed: int) -> EditJob:
        """The same job with another seed."""
        return replace(self, seed=seed)


@dataclass(frozen=True, slots=True)
class EditResult:
    """The edited picture and a report.

    Attributes:
        image: the picture.
        applied: operations carried out, where the pipeline knows them.
        not_understood: phrases of the prompt that were not understood.
    """

    image: Image.Image
    applied: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class Edit(Protocol):
    """One edit in progress, used by the executor's thread only.

    Attributes:
        started: whether its first advance, which begins to encode text and source, is done.
        group: edits of equal groups can be advanced together; None until started, and for one that cannot be batched.
        cost: tokens of its next advance, the unit of the batch limit; an estimate until it is started.
        calls, calls_done: advances after the first one in all (an estimate), and done.
        steps, step: denoise steps in all, and done.
        preview: the latest unfinished picture, until it is taken.
        timings: seconds of its stages (``encode``, ``denoise``, ``decode``), as far as they are known.
        result, error: one of them is set when the edit is finished.
        blamed: the field of the request that an error is about.
        pending: work of its text encoder or VAE on another thread, which its next advance needs; None if it needs none.
        side_s: seconds of such work so far.
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
    blamed: str
    side_s: float

    @property
    def pending(self) -> Future[Any] | None:
        """See above."""
        ...


class Pipeline(Protocol):
    """An editing family. All methods except `prepare`, `finish` and `figures` are called on one thread."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the family supports."""
        ...

    @property
    def warm_up(self) -> EditJob:
        """A job that exercises every path of the pipeline; run before the worker is ready."""
        ...

    @property
    def interruptible(self) -> bool:
        """Whether an edit takes several advances, so that it can be stopped or preempted in between."""
        ...

    @property
    def max_active(self) -> int | None:
        """Upper bound of edits started at a time, regardless of memory; None: any number."""
        ...

    @property
    def lags(self) -> bool:
        """Whether `advance` returns while the device still computes, so that the next one waits for it."""
        ...

    @property
    def overlaps(self) -> bool:
        """Whether it encodes and decodes on another thread, at the same time as it advances other edits."""
        ...

    def prepare(self, job: EditJob) -> EditJob:
        """Preprocess a job without the device; on any thread."""
        ...

    def open(self, job: EditJob) -> Edit:
        """An edit of this job, not yet started; cheap."""
        ...

    def advance(self, edits: Sequence[Edit]) -> None:
        """Start one edit, advance each of several of one group by one call, or let one go on whose ``pending`` work is done.

        An advance of an edit whose work is not done waits for it.
        An edit that fails sets its ``error`` and does not affect others.

        Raises:
            OutOfMemoryError: for the edits that it names; the others may have been advanced.
            PipelineBrokenError: the pipeline can no longer be used.
        """
        ...

    def close(self, edit: Edit) -> None:
        """Release what the edit holds, at any stage."""
        ...

    def reclaim(self) -> None:
        """Free memory: caches, and the allocator's reserve."""
        ...

    def memory(self) -> tuple[int, int] | None:
        """(bytes free, peak bytes allocated since the last call) of the device; None where it is not measured."""
        ...

    def figures(self) -> Mapping[str, float]:
        """The pipeline's own metrics by name; on any thread."""
        ...

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        """Postprocess a result without the device; on any thread."""
        ...

    def shutdown(self) -> None:
        """End what the pipeline has outside this process; the last call, when a worker ends as it should."""
        ...


class SingleStepFamily(Protocol):
    """A family whose edit is one indivisible call."""

    @property
    def name(self) -> str:
        """The model name that the service announces."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the family supports."""
        ...

    @property
    def warm_up(self) -> EditJob:
        """A job that exercises every path of the family."""
        ...

    def edit(self, job: EditJob) -> EditResult:
        """Edit one picture. Raises ``ValueError`` when the job asks for what the capabilities do not declare."""
        ...
