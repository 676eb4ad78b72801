"""A plain diffusers pipeline whose edits are interleaved.

Each edit runs the pipeline's own ``__call__``, as diffusers wrote it, in a greenlet of the executor's thread, on a shallow
copy that shares the models. Two things on the copy are its own: the scheduler, and a stand-in for the denoiser at which it
stops at every call. Calls of several edits that belong to one group are answered by one pass over the model; then each
edit goes on to its next call. So an edit alone is the plain pipeline to the bit, joining and leaving happen between any
two calls, and cancelling is an exception raised at the call where the edit stands.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from greenlet import GreenletExit, greenlet
from PIL import Image

from services.editor.pipelines.base import Capabilities, Edit, EditJob, EditResult, OutOfMemoryError
from services.editor.pipelines.diffusion.calls import Call, Collation, Fingerprints, group_of, merge, split
from services.editor.pipelines.diffusion.denoiser_proxy import DenoiserProxy
from services.editor.pipelines.diffusion.device import Device, as_pipeline_error, emptied
from services.editor.pipelines.diffusion.encoder_cache import EncoderCache
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.invariance import Invariance
from services.editor.pipelines.diffusion.progress import Progress
from services.errors import ApiError


@dataclass(slots=True, eq=False)
class InterleavedEdit:
    """One edit under way; see `services.editor.pipelines.base.Edit`. ``call`` is where it stands, once started, and ``place``
    counts the calls of its step.
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
    call: Call | None = None
    place: int = -1
    progress: Progress | None = None
    thread: Any = None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)


@dataclass(frozen=True, slots=True)
class Options:
    """How a loaded pipeline is run.

    Attributes:
        pixels: the area to work at.
        encoder_cache_bytes: how much of what the encoders compute is kept.
        name: what the service calls the model; None: the family's name.
        caching: whether a cache that skips work between steps is on; then calls are answered one at a time, each edit in a
            cache context of its own.
        compiled: whether the denoiser's blocks are compiled.
        one_at_a_time: whether only one edit may be started at a time: whole models are brought to the device and back, and
            those of two edits would be there together.
        collations: instead of the family's (an attention kernel that takes no mask must not be given padding).
    """

    pixels: int
    encoder_cache_bytes: int
    name: str | None = None
    caching: bool = False
    compiled: bool = False
    one_at_a_time: bool = False
    collations: Mapping[str, Collation] | None = None


class InterleavedPipeline:
    """A diffusion family and its loaded pipeline, as `services.editor.pipelines.base.Pipeline`.

    Args:
        family: what the pipeline is.
        pipe: the loaded diffusers pipeline, on its device.
        device: what is asked about memory.
        options: how it is run.
    """

    interruptible = True

    def __init__(self, family: Family, pipe: Any, device: Device, options: Options) -> None:
        self._name = options.name or family.name
        self._family = family
        self._pipe = pipe
        self._device = device
        self._pixels = options.pixels
        self._caching = options.caching
        self._one_at_a_time = options.one_at_a_time
        self._collations = family.collations if options.collations is None else options.collations
        self._model = getattr(pipe, family.denoiser)
        # A compiled model must not be changed; a GPU does not round by sample anyway.
        self._invariance = None if device.is_cuda or options.compiled else Invariance(self._model)
        self._numbers = itertools.count(1)
        self.encoder_cache = EncoderCache(options.encoder_cache_bytes)

    @property
    def name(self) -> str:
        """The served name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """The family's."""
        return self._family.capabilities

    @property
    def max_active(self) -> int | None:
        """See `Options.one_at_a_time`."""
        return 1 if self._one_at_a_time else None

    @property
    def warm_up(self) -> EditJob:
        """Two steps at the size that the model works at, with a preview."""
        side = max(16, round(self._pixels**0.5))
        grey = Image.new("RGB", (side, side), "grey")
        return EditJob(grey, "warm up", parameters={"num_inference_steps": 2}, source="warm-up", previews=1)

    def prepare(self, job: EditJob) -> EditJob:
        """The job with an opaque source, no larger than the pipeline would make it: so it costs little while it waits, and the
        device's thread does not scale it.
        """
        if job.image.mode != "RGB":
            ground = Image.new("RGB", job.image.size, "white")
            ground.paste(job.image.convert("RGB"), mask=job.image.getchannel("A") if "A" in job.image.getbands() else None)
            job = replace(job, image=ground)
        self._family.check(job, self._pixels)
        return self._reduced(job)

    def _reduced(self, job: EditJob) -> EditJob:
        family, pixels = self._family, self._pixels
        target = family.reduced(job, pixels)
        if target[0] >= job.image.width or target[1] >= job.image.height:
            return job
        smaller = job.image.resize(target, Image.Resampling.LANCZOS)
        small = replace(job, image=smaller, source_size=job.image.size)
        # Only if the pipeline then leaves it alone, and draws at the same size: rounding may make a shape another.
        same = family.reduced(small, pixels) == target and family.size(small, pixels) == family.size(job, pixels)
        return small if same else job

    def open(self, job: EditJob) -> InterleavedEdit:
        """An edit of this job, with the defaults filled in."""
        job = self._family.completed(job)
        steps = self._family.steps(job)
        return InterleavedEdit(job, steps, steps * self._family.calls_a_step(job), next(self._numbers))

    def advance(self, edits: Sequence[Edit]) -> None:
        """Start one edit, or answer the calls at which the edits stand. Raises as `Pipeline.advance`."""
        batch = [edit for edit in edits if isinstance(edit, InterleavedEdit)]
        assert len(batch) == len(edits)
        short: list[Edit] = []
        with torch.no_grad():
            if len(batch) == 1 and not batch[0].started:
                if not self._start(batch[0]):
                    short.append(batch[0])
            else:
                for edit, answer in zip(batch, self._answer(batch), strict=True):
                    edit.calls_done += 1
                    if not self._go_on(edit, answer):
                        short.append(edit)
                self._device.pace()
        if short:
            raise OutOfMemoryError("between two calls of the denoiser", short)

    def _start(self, edit: InterleavedEdit) -> bool:
        if self._one_at_a_time:
            self._send_back()
        edit.started = True
        edit.thread = greenlet(self._run)
        edit.progress = Progress(edit.steps, edit.job.previews, time.perf_counter())
        return self._go_on(edit, edit)

    def _send_back(self) -> None:
        """Take every model off the device: an edit that was stopped midway has left some there, where its pipeline, at its
        end, would have done it.
        """
        for hook in getattr(self._pipe, "_all_hooks", ()):
            hook.offload()

    def _run(self, edit: InterleavedEdit) -> torch.Tensor:
        """The edit's greenlet: the pipeline's own call, from beginning to end. Returns the picture (3, H, W) in 0 … 1."""
        pipe = self._copy(edit)
        arguments = self._family.arguments(edit.job, self._pixels)
        generator = torch.Generator(self._device.generator).manual_seed(edit.job.seed)
        images, *flags = pipe(**arguments, generator=generator, output_type="pt", return_dict=False)
        # Stable Diffusion's safety checker makes what it flags black, and says so here.
        if flags and flags[0] and any(flags[0]):
            raise ApiError("content_refused", "the model's safety checker refused the edited picture; change the prompt")
        picture: torch.Tensor = images[0]
        return picture

    def _copy(self, edit: InterleavedEdit) -> Any:
        """The pipeline for one edit: shared models, but its own scheduler, a stand-in denoiser, and memory."""
        own = copy.copy(self._pipe)
        scheduler = copy.deepcopy(self._pipe.scheduler)
        assert edit.progress is not None
        edit.progress.watch(scheduler, self._previewer(edit))
        # Past the pipeline's __setattr__, which would write to the configuration that all copies share.
        own.__dict__["scheduler"] = scheduler
        own.__dict__[self._family.denoiser] = DenoiserProxy(self._model)
        # It would reset the caches, and the offloading, of every other edit.
        own.__dict__["maybe_free_model_hooks"] = lambda: None
        for name in self._family.cached_methods:
            own.__dict__[name] = self.encoder_cache.cached(getattr(self._pipe, name), name, edit.job.source)
        return own

    def _previewer(self, edit: InterleavedEdit) -> Any:
        to_vae = self._family.to_vae
        if to_vae is None:
            return None
        size = self._family.size(edit.job, self._pixels)

        def show(clean: torch.Tensor) -> None:
            edit.preview = self._device.picture(self._pipe, to_vae(self._pipe, clean, size))

        return show

    def _answer(self, edits: list[InterleavedEdit]) -> list[Any]:
        """Each edit's answer, or the exception that its call alone raised."""
        calls = [edit.call for edit in edits if edit.call is not None]
        try:
            answer = self._compute(edits, merge(calls, self._collations))
            return split(answer, calls)
        # Whose fault it was shows when each is asked alone; a fault of the device is not the edits'.
        except Exception as exc:  # noqa: BLE001 - it becomes the edit's
            fault, failure = as_pipeline_error(exc), emptied(exc)
        if fault is None:
            return [failure] if len(edits) == 1 else [self._answer([edit])[0] for edit in edits]
        if isinstance(fault, OutOfMemoryError):
            # Raised anew, and out of the handler: what the failed pass had allocated is free by now.
            raise OutOfMemoryError(str(fault), edits)
        raise fault from failure

    def _compute(self, edits: list[InterleavedEdit], arguments: Mapping[str, Any]) -> Any:
        if not self._caching:
            sizes = [edit.call.samples for edit in edits if edit.call is not None]
            with self._invariance.of(sizes) if self._invariance else contextlib.nullcontext():
                return self._model(**arguments)
        (edit,) = edits
        assert edit.call is not None
        # A pipeline that names no context may make several calls a step: each is compared with its like of the last step.
        with self._model.cache_context(f"{edit.number}/{edit.call.context or edit.place}"):
            return self._model(**arguments)

    def _go_on(self, edit: InterleavedEdit, answer: Any) -> bool:
        """Let the edit's pipeline run to its next call, or to its end; False if memory ran out: it is back at its beginning."""
        assert edit.progress is not None
        try:
            raised = isinstance(answer, Exception)
            outcome = edit.thread.throw(answer) if raised else edit.thread.switch(answer)
            if not isinstance(outcome, Call):
                outcome = self._device.finished(outcome)
        # The edit's own failure: a picture that its pipeline cannot take. The others go on.
        except Exception as exc:  # noqa: BLE001 - it becomes the edit's
            fault, failure = as_pipeline_error(exc), emptied(exc)
        else:
            self._stand(edit, outcome)
            return True
        if fault is not None and not isinstance(fault, OutOfMemoryError):
            raise fault from failure
        self.close(edit)
        if fault is None:
            edit.error = failure
            return True
        edit.started, edit.group, edit.preview = False, None, None
        edit.calls_done, edit.step, edit.place = 0, 0, -1
        return False

    def _stand(self, edit: InterleavedEdit, outcome: Any) -> None:
        """Note where the edit stands now: at a call, or at its end with a picture."""
        assert edit.progress is not None
        before, edit.step = edit.step, edit.progress.step
        if isinstance(outcome, Call):
            edit.progress.called()
            edit.call = outcome
            edit.place = edit.place + 1 if edit.step == before else 0
            edit.cost = outcome.cost
            edit.group = None if self._caching else group_of(outcome, self._collations, edit.fingerprints)
        else:
            edit.timings = edit.progress.timings()
            edit.result = EditResult(outcome)
            self.close(edit)

    def close(self, edit: Edit) -> None:
        """End the edit's greenlet where it stands, and forget what the caches hold for it."""
        assert isinstance(edit, InterleavedEdit)
        if edit.thread is not None and not edit.thread.dead:
            edit.thread.throw(GreenletExit)
        if edit.progress is not None:
            edit.progress.close()
        edit.thread = edit.call = edit.progress = None
        edit.fingerprints = Fingerprints()
        if self._caching:
            self._device.forget(self._model, f"{edit.number}/")

    def reclaim(self) -> None:
        """Forget what the encoders computed, and give the allocator's reserve back."""
        self.encoder_cache.clear()
        self._device.reclaim()

    def memory(self) -> tuple[int, int] | None:
        """See `Pipeline.memory`."""
        return self._device.memory()

    def figures(self) -> Mapping[str, float]:
        """How often what the encoders compute was remembered, and what the device's memory holds."""
        cache = self.encoder_cache
        return {
            "encoder_cache_hits": cache.hits,
            "encoder_cache_misses": cache.misses,
            "encoder_cache_bytes": cache.size,
            "device_bytes": self._device.held(),
        }

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        """The picture at the size that was asked for, or the source's."""
        size = job.size or job.source_size or job.image.size
        if result.image.size == size:
            return result
        return replace(result, image=result.image.resize(size, Image.Resampling.LANCZOS))
