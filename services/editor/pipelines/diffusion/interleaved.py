"""Continuous batching for plain diffusers pipelines.

Each edit runs the pipeline's own ``__call__``, unmodified, in a greenlet of the executor's thread, on a shallow copy that shares
the models. The copy has its own scheduler and a `DenoiserProxy`, at which it yields every call. Calls of several edits of one
group are answered by one pass over the model; then each edit runs to its next call. So an edit alone is bit-identical to the
plain pipeline, edits join and leave a batch between any two calls, and an edit is cancelled by an exception raised at its
current call.

Text encoders and the VAE may run on a thread of their own (`SideThread`). Then an edit also yields where it calls one of them,
and others are advanced until that is done.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from cachetools import LRUCache
from diffusers import SchedulerMixin
from diffusers.guiders import BaseGuidance
from greenlet import GreenletExit, getcurrent, greenlet
from PIL import Image

from services.editor.pipelines.base import Capabilities, Edit, EditJob, EditResult, OutOfMemoryError
from services.editor.pipelines.diffusion import inpainting
from services.editor.pipelines.diffusion.calls import Call, Collation, Fingerprints, group_of, merge, split
from services.editor.pipelines.diffusion.denoiser_proxy import DenoiserProxy
from services.editor.pipelines.diffusion.device import Device, NonFiniteError, as_pipeline_error, without_traceback
from services.editor.pipelines.diffusion.encoder_cache import EncoderCache
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.invariance import BatchInvariance
from services.editor.pipelines.diffusion.lora_adapters import LoraAdapters
from services.editor.pipelines.diffusion.outputs import is_refused, picture_of
from services.editor.pipelines.diffusion.progress import Progress
from services.editor.pipelines.diffusion.rescaling import working_area
from services.editor.pipelines.diffusion.side_thread import SideThread, SideWork, VaeProxy
from services.editor.pipelines.diffusion.sizes import unstretched
from services.editor.pipelines.diffusion.special_tokens import special_tokens
from services.editor.pipelines.diffusion.text_limit import TextLimit
from services.errors import ApiError
from services.imaging.shapes import framed, nearly

_MAX_SHAPES = 256
"""Shapes of edits whose tokens are known."""


@dataclass(slots=True, eq=False)
class InterleavedEdit:
    """One edit in progress; see `services.editor.pipelines.base.Edit`.

    Attributes:
        job: with all parameters filled in.
        number: unique in its pipeline; prefix of its cache contexts.
        call: the call it is waiting at, once started; None while it waits for the side thread.
        call_index: index of that call since the scheduler's last step.
        passes: of its scheduler, until that call.
        progress: observes its scheduler.
        greenlet: runs its pipeline.
        fingerprints: of its constant tensors.
        unchecked: of its passes whether all values were finite, where that was not read yet: (the pass's number, flags, index).
    """

    job: EditJob
    steps: int
    calls: int
    number: int
    started: bool = False
    group: Hashable | None = None
    cost: int = 1
    calls_done: int = 0
    step: int = 0
    preview: Image.Image | None = None
    timings: dict[str, float] = field(default_factory=dict)
    result: EditResult | None = None
    error: Exception | None = None
    blamed: str = "prompt"
    pending: SideWork | None = None
    side_s: float = 0.0
    call: Call | None = None
    call_index: int = -1
    passes: int = 0
    progress: Progress | None = None
    greenlet: Any = None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    unchecked: list[tuple[int, torch.Tensor, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """How a loaded pipeline is run.

    Attributes:
        pixels: the area to work at.
        encoder_cache_bytes: size of the encoder cache.
        name: the served name; None: the family's.
        caching: whether a step cache is on; then calls are not batched, and each edit has its own cache context.
        compiled: whether the denoiser's blocks are compiled.
        exclusive: whether only one edit may be started at a time: with model offload, the models of two edits would be on the
            device together.
        collations: instead of the family's (for attention backends that take no mask).
        loras: those that edits may name.
        overlap: whether text encoders and the VAE run on a thread of their own.
        split: whether the denoiser's passes are split over processes.
        end: ends those processes.
    """

    pixels: int
    encoder_cache_bytes: int
    name: str | None = None
    caching: bool = False
    compiled: bool = False
    exclusive: bool = False
    collations: Mapping[str, Collation] | None = None
    loras: LoraAdapters | None = None
    overlap: bool = False
    split: bool = False
    end: Callable[[], None] | None = None


class InterleavedPipeline:
    """A diffusion family with its loaded pipeline, as a `services.editor.pipelines.base.Pipeline`.

    Args:
        family: the description of the pipeline.
        pipe: the loaded diffusers pipeline, on its device.
        device: the device it is on.
        options: how it is run.
    """

    interruptible = True

    def __init__(self, family: Family, pipe: Any, device: Device, options: Options) -> None:
        self._name = options.name or family.name
        self._family = family
        self._texts = TextLimit(pipe, family.text)
        self._capabilities = replace(
            family.capabilities,
            special_tokens=special_tokens(pipe),
            prompt_tokens=self._texts.prompt_tokens,
            loras={} if options.loras is None else options.loras.scales,
            native_pixels=options.pixels,
            draft=True,
        )
        self._pipe = pipe
        self._inpaint = None if family.inpainting is None else inpainting.of_components(family.inpainting.pipeline, pipe)
        self._device = device
        self._pixels = options.pixels
        self._caching = options.caching
        self._exclusive = options.exclusive
        self._loras = options.loras
        self._side = SideThread(device) if options.overlap and not options.exclusive else None
        self._collations = family.collations if options.collations is None else options.collations
        self._model = getattr(pipe, family.denoiser)
        # Further schedulers, and the guiders of modular pipelines, keep the state of one edit.
        kinds = (SchedulerMixin, BaseGuidance)
        self._stateful = {name: each for name, each in vars(pipe).items() if name != "scheduler" and isinstance(each, kinds)}
        # A compiled model cannot be patched, nor one in parts; and on a GPU rounding depends on the batch size anyway.
        patched = not (device.is_cuda or options.compiled or options.split)
        self._invariance = BatchInvariance(self._model) if patched else None
        self._end = options.end
        self._numbers = itertools.count(1)
        self._passes = 0
        self._costs: LRUCache[tuple[int, int], int] = LRUCache(_MAX_SHAPES)
        self.encoder_cache = EncoderCache(options.encoder_cache_bytes)

    @property
    def name(self) -> str:
        """The served name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """The family's, with the special tokens of the loaded model, how long a text it reads, and the working area."""
        return self._capabilities

    @property
    def max_active(self) -> int | None:
        """See `Options.exclusive`."""
        return 1 if self._exclusive else None

    @property
    def lags(self) -> bool:
        """On a GPU; see `Device.limit_lag`."""
        return self._device.is_cuda

    @property
    def overlaps(self) -> bool:
        """See `Options.overlap`; never where only one edit may be started."""
        return self._side is not None

    @property
    def warm_up(self) -> EditJob:
        """Two steps at the working area, with a preview."""
        side = max(16, round(self._pixels**0.5))
        grey = Image.new("RGB", (side, side), "grey")
        parameters: dict[str, float] = {"num_inference_steps": 2}
        if "strength" in self._capabilities.parameters:
            # A part of two steps may be none.
            parameters["strength"] = 1
        return EditJob(grey, "warm up", parameters=parameters, source="warm-up", previews=1)

    def prepare(self, job: EditJob) -> EditJob:
        """The job with an opaque source (unless the family takes transparent ones), scaled down as the pipeline would: it needs
        little memory while it waits, and is not scaled on the executor's thread.
        """
        if not self._family.alpha:
            job = replace(job, image=_opaque(job.image), references=tuple(map(_opaque, job.references)))
        self._family.check(job, self._area(job))
        self._texts.check(job, self._name)
        return self._scaled_down(job if job.mask is None else inpainting.with_original(job))

    def _scaled_down(self, job: EditJob) -> EditJob:
        family, pixels = self._family, self._area(job)
        target = family.reduced(job, pixels) if job.mask is None else family.result_size(job, pixels)
        if target[0] >= job.image.width or target[1] >= job.image.height:
            return job
        image = job.image
        if job.size is not None and nearly(target, job.size) and not nearly(image.size, target):
            # The pipeline edits at the shape that was asked for, and would stretch the source to it.
            image = framed(image, target, "cover")
        smaller = image.resize(target, Image.Resampling.LANCZOS)
        small = replace(job, image=smaller, source_size=job.source_size or job.image.size)
        # Only if the pipeline does not scale it again, and works at the same size: rounding may change the aspect ratio.
        same = family.result_size(small, pixels) == family.result_size(job, pixels)
        same = same and (job.mask is not None or family.reduced(small, pixels) == target)
        return small if same else job

    def _area(self, job: EditJob) -> int:
        return self._family.area(job, self._pixels)

    def open(self, job: EditJob) -> InterleavedEdit:
        """An edit of this job, with the defaults filled in."""
        job = self._family.completed(job)
        steps = self._family.steps(job)
        # Heun and its like call the model once more in every step but the last.
        order = getattr(self._pipe.scheduler, "order", 1)
        passes = order * steps - (order - 1)
        cost = self._expected_cost(self._shape(job))
        return InterleavedEdit(job, steps, passes * self._family.calls_a_step(job), next(self._numbers), cost=cost)

    def _shape(self, job: EditJob) -> tuple[int, int]:
        """What the tokens of a job's calls depend on: its area, and the number of its references."""
        width, height = self._family.size(job, self._area(job))
        return width * height, len(job.references)

    def _expected_cost(self, shape: tuple[int, int]) -> int:
        """Tokens of a call of an edit of this shape: as the last one had, or in proportion to that of the nearest area."""
        if shape in self._costs:
            return self._costs[shape]
        alike = [known for known in self._costs if known[1] == shape[1]] or list(self._costs)
        if not alike:
            return 1
        near = min(alike, key=lambda known: max(known[0], shape[0]) / min(known[0], shape[0]))
        return max(1, self._costs[near] * shape[0] // near[0])

    def advance(self, edits: Sequence[Edit]) -> None:
        """Start one edit, answer the calls at which the edits wait, or let one go on that waits for the side thread. Raises as
        `Pipeline.advance`.
        """
        batch = [edit for edit in edits if isinstance(edit, InterleavedEdit)]
        assert len(batch) == len(edits)
        short: list[Edit] = []
        with torch.no_grad():
            if len(batch) == 1 and not batch[0].started:
                if not self._start(batch[0]):
                    short.append(batch[0])
            elif len(batch) == 1 and batch[0].pending is not None:
                if not self._go_on(batch[0], batch[0].pending):
                    short.append(batch[0])
            else:
                answers = self._outputs(batch)
                self._watch(batch, answers)
                for edit, answer in zip(batch, answers, strict=True):
                    edit.calls_done += 1
                    if not self._resume(edit, answer):
                        short.append(edit)
                self._device.limit_lag()
                self._end_nonfinite(batch)
        if short:
            raise OutOfMemoryError("between two calls of the denoiser", short)

    def _watch(self, edits: list[InterleavedEdit], answers: list[Any]) -> None:
        """Have the device find out whether this pass's answers are finite."""
        self._passes += 1
        flags = self._device.finite(answers)
        for index, edit in enumerate(edits):
            edit.unchecked.append((self._passes, flags, index))

    def _end_nonfinite(self, edits: list[InterleavedEdit]) -> None:
        """End the edits of this pass that have got NaN or infinity, as far as the device has said so without being waited for."""
        said = self._passes - 1 if self._device.lags else self._passes
        for edit in edits:
            known = [bool(flags[index]) for number, flags, index in edit.unchecked if number <= said]
            edit.unchecked = [each for each in edit.unchecked if each[0] > said]
            if edit.result is None and edit.error is None and not all(known):
                self.close(edit)
                edit.error = NonFiniteError()

    def _start(self, edit: InterleavedEdit) -> bool:
        if self._exclusive:
            self._offload_all()
        edit.started = True
        edit.greenlet = greenlet(self._run)
        edit.progress = Progress(edit.steps, edit.job.previews, time.perf_counter())
        return self._resume(edit, edit)

    def _go_on(self, edit: InterleavedEdit, work: SideWork) -> bool:
        wait([work])
        edit.pending = None
        edit.side_s += work.seconds
        return self._resume(edit, None)

    def _aside(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as an edit calls it: on the side thread, while the edit yields; directly where there is none."""
        side = self._side
        if side is None:
            return method

        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            work = side.submit(functools.partial(method, *args, **kwargs))
            parent = getcurrent().parent
            assert parent is not None
            parent.switch(work)
            return work.result()

        return wrapper

    def _offload_all(self) -> None:
        """Move every model off the device, as a pipeline does when it ends: a cancelled edit may have left some there."""
        for hook in getattr(self._pipe, "_all_hooks", ()):
            hook.offload()

    def _run(self, edit: InterleavedEdit) -> torch.Tensor:
        """The body of the edit's greenlet: the pipeline's own call. Returns the picture (C, H, W) in 0 … 1."""
        area = self._area(edit.job)
        # A greenlet has a context of its own.
        working_area.set(area)
        pipe = self._copy(edit)
        arguments = self._family.arguments(edit.job, area)
        generator = torch.Generator(self._device.generator).manual_seed(edit.job.seed)
        output = pipe(**arguments, generator=generator, output_type="pt", return_dict=False)
        if is_refused(output):
            raise ApiError("content_refused", "the model's safety checker refused the edited picture; change the prompt")
        return picture_of(output)

    def _copy(self, edit: InterleavedEdit) -> Any:
        """The pipeline for one edit: shared models, its own schedulers and guiders, a denoiser proxy, cached encoders."""
        pipe, methods = self._pipe, self._family.cached_methods
        if edit.job.mask is not None and self._family.inpainting is not None:
            pipe, methods = self._inpaint, self._family.inpainting.cached_methods
        own = copy.copy(pipe)
        scheduler = copy.deepcopy(self._pipe.scheduler)
        assert edit.progress is not None
        edit.progress.watch(scheduler, self._previewer(edit))
        # Bypasses the pipeline's __setattr__, which writes to the configuration that all copies share.
        own.__dict__.update({name: copy.deepcopy(component) for name, component in self._stateful.items()})
        own.__dict__["scheduler"] = scheduler
        own.__dict__[self._family.denoiser] = DenoiserProxy(self._model)
        # It would reset the step caches and the offloading of all other edits.
        own.__dict__["maybe_free_model_hooks"] = lambda: None
        for name in methods:
            method = _blaming(edit, "prompt" if "prompt" in name else "image", getattr(pipe, name))
            own.__dict__[name] = self._aside(self.encoder_cache.cached(method, name, edit.job.source))
        if self._side is not None and hasattr(pipe, "vae"):
            own.__dict__["vae"] = VaeProxy(pipe.vae, self._aside)
        processor = getattr(pipe, "image_processor", None)
        if processor is not None:
            own.__dict__["image_processor"] = _watched(processor)
        return own

    def _previewer(self, edit: InterleavedEdit) -> Any:
        to_vae = self._family.to_vae
        if to_vae is None:
            return None
        size = self._family.result_size(edit.job, self._area(edit.job))

        def show(clean: torch.Tensor) -> None:
            latents = to_vae(self._pipe, clean, size)
            if latents is not None:
                edit.preview = self._aside(self._device.preview)(self._pipe, latents)

        return show

    def _outputs(self, edits: list[InterleavedEdit]) -> list[Any]:
        """For each edit the output of its call, or the exception that the call raises on its own."""
        calls = [edit.call for edit in edits if edit.call is not None]
        try:
            answer = self._compute(edits, merge(calls, self._collations))
            return split(answer, calls)
        # Calls are repeated one by one to find the failing one, unless the device failed.
        except Exception as exc:  # noqa: BLE001 - it becomes the edit's
            fault, failure = as_pipeline_error(exc), without_traceback(exc)
        if fault is None:
            return [failure] if len(edits) == 1 else [self._outputs([edit])[0] for edit in edits]
        if isinstance(fault, OutOfMemoryError):
            # A new exception, raised outside the handler: the failed pass's allocations are free by now.
            raise OutOfMemoryError(str(fault), edits)
        raise fault from failure

    def _compute(self, edits: list[InterleavedEdit], arguments: Mapping[str, Any]) -> Any:
        if self._loras is not None:
            self._loras.select(edits[0].job.lora)
        if not self._caching:
            sizes = [edit.call.samples for edit in edits if edit.call is not None]
            with self._invariance.batch(sizes) if self._invariance else contextlib.nullcontext():
                return self._model(*self._positional(edits), **arguments)
        (edit,) = edits
        assert edit.call is not None
        # A pipeline without cache contexts may make several calls a step: each has its own cache, by its index.
        with self._model.cache_context(f"{edit.number}/{edit.call.context or edit.call_index}"):
            return self._model(*self._positional(edits), **arguments)

    @staticmethod
    def _positional(edits: list[InterleavedEdit]) -> tuple[Any, ...]:
        """Arguments without a name; calls of several edits have none."""
        return edits[0].call.positional if len(edits) == 1 and edits[0].call is not None else ()

    def _resume(self, edit: InterleavedEdit, answer: Any) -> bool:
        """Run the edit's pipeline to where it yields next, or its end; False if memory ran out: it is back at its beginning."""
        assert edit.progress is not None
        try:
            raised = isinstance(answer, Exception)
            outcome = edit.greenlet.throw(answer) if raised else edit.greenlet.switch(answer)
            if not isinstance(outcome, Call | SideWork):
                outcome = self._device.to_image(outcome)
            self._record(edit, outcome)
        # A failure of this edit must not affect the others.
        except Exception as exc:  # noqa: BLE001 - it becomes the edit's
            fault, failure = as_pipeline_error(exc), without_traceback(exc)
        else:
            return True
        if fault is not None and not isinstance(fault, OutOfMemoryError):
            raise fault from failure
        self.close(edit)
        if fault is None:
            edit.error = failure
            return True
        edit.started, edit.group, edit.preview, edit.unchecked = False, None, None, []
        edit.calls_done, edit.step, edit.passes, edit.call_index = 0, 0, 0, -1
        return False

    def _record(self, edit: InterleavedEdit, outcome: Any) -> None:
        """Record the edit's state: waiting for the side thread or at a call, or finished with a picture."""
        assert edit.progress is not None
        if isinstance(outcome, SideWork):
            edit.pending, edit.step, edit.call, edit.group = outcome, edit.progress.step, None, None
            return
        before, edit.passes, edit.step = edit.passes, edit.progress.passes, edit.progress.step
        if isinstance(outcome, Call):
            edit.progress.called()
            edit.call = outcome
            edit.call_index = edit.call_index + 1 if edit.progress.passes == before else 0
            edit.cost = outcome.cost
            if edit.call_index == 0 and edit.step == 0:
                self._costs[self._shape(edit.job)] = edit.cost
            group = None if self._caching else group_of(outcome, self._collations, edit.fingerprints)
            # One LoRA acts in a pass, at one strength.
            edit.group = None if group is None else (edit.job.lora, group)
        else:
            edit.timings = edit.progress.timings()
            edit.result = EditResult(outcome)
            self.close(edit)

    def close(self, edit: Edit) -> None:
        """End the edit's greenlet where it waits, and drop its state in the step caches."""
        assert isinstance(edit, InterleavedEdit)
        if edit.pending is not None:
            edit.pending.cancel()  # work that has begun ends by itself, and nobody reads its result
            edit.pending = None
        if edit.greenlet is not None and not edit.greenlet.dead:
            edit.greenlet.throw(GreenletExit)
        if edit.progress is not None:
            edit.progress.close()
        edit.greenlet = edit.call = edit.progress = None
        edit.fingerprints = Fingerprints()
        if self._caching:
            self._device.drop_cache_state(self._model, f"{edit.number}/")

    def reclaim(self) -> None:
        """Clear the encoder cache, and release the allocator's reserve."""
        self.encoder_cache.clear()
        self._device.reclaim()

    def memory(self) -> tuple[int, int] | None:
        """See `Pipeline.memory`."""
        return self._device.memory()

    def figures(self) -> Mapping[str, float]:
        """Figures of the encoder cache and the LoRAs, and the device's memory in use."""
        cache, loras = self.encoder_cache, self._loras
        return {
            "encoder_cache_hits": cache.hits,
            "encoder_cache_misses": cache.misses,
            "encoder_cache_bytes": cache.size,
            "device_bytes": self._device.allocated(),
            "lora_bytes": 0 if loras is None else loras.bytes,
            "lora_switches": 0 if loras is None else loras.switches,
        }

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        """The picture scaled to the requested size, or the source's, unless its native size was asked for; with a mask, the
        source where the mask is closed.
        """
        size = job.size or job.source_size or job.image.size
        image = result.image
        if job.native_size or job.draft:
            size = unstretched(image.size, size)
        if image.size != size:
            # The inverse of what the pipeline did to the source, also where its sizes have another aspect ratio.
            image = image.resize(size, Image.Resampling.LANCZOS)
        if job.mask is not None:
            image = inpainting.composed(job, image)
        return result if image is result.image else replace(result, image=image)

    def shutdown(self) -> None:
        """End the processes that share the denoiser's passes."""
        if self._end is not None:
            self._end()


def _blaming(edit: InterleavedEdit, field: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method; if it raises, the error is about this field of the request."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception:
            edit.blamed = field
            raise

    return wrapper


def _watched(processor: Any) -> Any:
    """The processor that makes pictures of what the VAE decoded, which refuses infinities: they would be clamped to white."""
    own = copy.copy(processor)

    def postprocess(image: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(image, torch.Tensor) and not bool(image.isfinite().all()):
            raise NonFiniteError
        return processor.postprocess(image, *args, **kwargs)

    own.__dict__["postprocess"] = postprocess
    return own


def _opaque(image: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is transparent."""
    if image.mode == "RGB":
        return image
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image.convert("RGB"), mask=image.getchannel("A") if "A" in image.getbands() else None)
    return ground
