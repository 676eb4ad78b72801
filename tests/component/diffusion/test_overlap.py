"""Text encoders and VAE on a thread of their own: the same pictures, failures where they belong, and nothing that stays."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKLOutput
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines.base import OutOfMemoryError, PipelineBrokenError
from services.editor.pipelines.diffusion.device import Device, tensors_in
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.diffusion.side_thread import SideThread
from services.editor.pipelines.diffusion.tuning import overlap
from services.editor.pipelines.tuning import Tuning
from tests.component.diffusion import test_inpainting as masked
from tests.component.diffusion import test_release as release
from tests.component.diffusion.test_families import family_of, finished
from tests.doubles.waiting import LIMIT_S, wait
from tests.parity import Bench, difference
from tests.tiny import BUILDERS
from tests.unit.editor.interleaved import CountingObserver

CLOSE = 1e-5
"""As in `test_parity`."""


def served(*, cache: bool = False) -> InterleavedPipeline:
    tuning = Tuning(pixels=release.PIXELS, encoder_cache_bytes=2**28 if cache else 0, overlap=True)
    return serve(family_of("kontext"), BUILDERS["kontext"](), Device("cpu"), tuning)


def encoders(pipe: Any, denoiser: Any) -> Iterator[torch.nn.Module]:
    """The models of a pipeline without its denoiser and its safety checker."""
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and part is not denoiser and name != "safety_checker":
            yield part


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_pictures_are_the_plain_pipelines_and_no_two_threads_use_a_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone bit for bit; among others as close as without the overlap. Previews are decoded on the same thread."""
    bench = Bench(name, overlap=True)
    used: dict[str, set[int]] = {"encoders": set(), "denoiser": set()}

    def recording(method: Callable[..., Any], where: str) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            used[where].add(threading.get_ident())
            return method(*args, **kwargs)

        return recorded

    pipe, denoiser = bench.plain_of_service, bench.pipeline._model
    for model in encoders(pipe, denoiser):
        for method in {"forward", "encode", "decode"} & set(dir(model)):
            monkeypatch.setattr(model, method, recording(getattr(model, method), "encoders"))
    denoiser.register_forward_pre_hook(lambda *_: used["denoiser"].add(threading.get_ident()))
    jobs = [replace(job, previews=1) for job in bench.jobs()[:5]]
    with torch.no_grad():
        expected = [bench.expected(job) for job in jobs]
        assert max(difference(bench.alone(job), plain) for job, plain in zip(jobs[:2], expected, strict=False)) == 0
        mixed, together = bench.mixed(jobs)
    assert max(map(difference, mixed, expected)) <= CLOSE
    assert together > 1 or not bench.family.collations
    assert used["denoiser"] == {threading.get_ident()}
    assert len(used["encoders"]) == 1 and not used["encoders"] & used["denoiser"]


class MaskedBench(masked.InpaintBench):
    """With the overlap."""

    def __init__(self, name: str) -> None:
        Bench.__init__(self, name, overlap=True)


@pytest.mark.parametrize("name", masked.MASKED)
def test_edits_with_masks_draw_from_the_same_random_numbers(name: str) -> None:
    """Their encodings of the source are sampled with the edit's generator, between two works of the thread."""
    bench = MaskedBench(name)
    jobs = [masked.job(1), replace(masked.job(1), mask=None), masked.job(2)]
    prepared = [bench.pipeline.prepare(job) for job in jobs]
    assert [difference(bench.alone(each), bench.expected(job)) for each, job in zip(prepared, jobs, strict=True)] == [0] * 3


def held(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> tuple[threading.Event, threading.Event]:
    """Have the next call of a method wait; (whether it has begun, what lets it go on)."""
    real, first = getattr(owner, name), iter([True])
    begun, go_on = threading.Event(), threading.Event()

    def waiting(*args: Any, **kwargs: Any) -> Any:
        if next(first, False):
            begun.set()
            assert go_on.wait(LIMIT_S)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, waiting)
    return begun, go_on


@pytest.mark.parametrize("part", ["encode_prompt", "decode"])
def test_an_edit_is_denoised_while_another_is_encoded_or_decoded(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to its own decoder, which is the one that is in use."""
    pipeline = served()
    pictures = [finished(release.served(), release.job(number, 4)) for number in (1, 2)]
    with release.executing(pipeline, 1) as executor:
        owner = pipeline._pipe if part == "encode_prompt" else pipeline._pipe.vae
        if part == "encode_prompt":
            # The second is encoded first, and denoised while the first one's text is.
            (second,) = executor.submit([pipeline.prepare(release.job(2, 4))])
            wait(lambda: second.edit is not None and second.edit.cost > 1 and second.edit.calls_done >= 1)
            begun, go_on = held(monkeypatch, owner, part)
            (first,) = executor.submit([pipeline.prepare(release.job(1, 4))])
        else:
            begun, go_on = held(monkeypatch, owner, part)
            first, second = executor.submit([pipeline.prepare(release.job(number, 4)) for number in (1, 2)])
        assert begun.wait(LIMIT_S)
        wait(lambda: any(each.edit is not None and each.edit.calls_done == 4 for each in (first, second)))
        if part == "decode":
            wait(lambda: all(each.edit is not None and each.edit.calls_done == 4 for each in (first, second)))
        assert not first.future.done()
        go_on.set()
        for handle, alone in zip((first, second), pictures, strict=True):
            assert alone.result is not None
            assert handle.future.result(LIMIT_S).result.image.tobytes() == alone.result.image.tobytes()


def test_a_cancelled_edit_leaves_at_once_and_its_work_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it encoded is in the cache; what was queued behind it is never begun."""
    pipeline = served()
    begun, go_on = held(monkeypatch, pipeline._pipe, "encode_prompt")
    gone, queued = pipeline.open(release.job(1)), pipeline.open(release.job(2))
    pipeline.advance([gone])
    pipeline.advance([queued])
    assert begun.wait(LIMIT_S)
    works = [gone.pending, queued.pending]
    pipeline.close(gone)
    pipeline.close(queued)
    assert (gone.greenlet, gone.pending, queued.pending) == (None, None, None)
    assert works[0] is not None and works[1] is not None
    assert not works[0].done() and works[1].cancelled()
    go_on.set()
    after = finished(pipeline, release.job(3))
    assert after.result is not None and works[0].done()


def test_candidates_of_one_turn_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are started while the first is still being encoded."""
    pipeline = served(cache=True)
    begun, go_on = held(monkeypatch, pipeline._pipe, "encode_prompt")
    edits = [pipeline.open(replace(release.job(1), seed=seed)) for seed in range(3)]
    for edit in edits:
        pipeline.advance([edit])
    assert begun.wait(LIMIT_S)
    pipeline.reclaim()  # may come at any time, on the executor's thread
    go_on.set()
    release.finish(pipeline, *edits)
    assert (pipeline.encoder_cache.misses, pipeline.encoder_cache.hits) == (2, 4)


def lost() -> Exception:
    return torch.AcceleratorError("CUDA error: unspecified launch failure")


@pytest.mark.parametrize("part", ["_encode_vae_image", "decode"])
@pytest.mark.parametrize(
    ("raised", "kind"),
    [(torch.OutOfMemoryError("no"), OutOfMemoryError), (lost(), PipelineBrokenError), (ValueError("no"), None)],
)
def test_a_failure_on_the_thread_is_what_it_would_be_on_the_executors(
    part: str, raised: Exception, kind: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory, the device, or this edit; another edit of the same pass goes on."""
    pipeline = served()
    whole, edit, other = (pipeline.open(release.job(1)), pipeline.open(release.job(1)), pipeline.open(release.job(2, steps=9)))
    release.finish(pipeline, whole)
    pipeline.advance([other])
    owner = pipeline._pipe if part != "decode" else pipeline._pipe.vae
    real, failures = getattr(owner, part), iter([raised])

    def failing(*args: Any, **kwargs: Any) -> Any:
        if (failure := next(failures, None)) is not None:
            raise failure
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, part, failing)
    if kind is None:
        release.finish(pipeline, edit)
        assert isinstance(edit.error, ValueError) and edit.blamed == ("prompt" if part == "decode" else "image")
        assert any("in failing" in note for note in edit.error.__notes__)
    else:
        with pytest.raises(kind) as failure:
            release.finish(pipeline, edit)
        if isinstance(failure.value, OutOfMemoryError):
            assert failure.value.edits == (edit,)
            assert (edit.started, edit.pending, edit.error, edit.calls_done, edit.step) == (False, None, None, 0, 0)
            release.finish(pipeline, edit)
            assert whole.result is not None and edit.result is not None
            assert edit.result.image.tobytes() == whole.result.image.tobytes()
    if kind is not PipelineBrokenError:
        release.finish(pipeline, other)
        assert other.result is not None


@pytest.mark.parametrize("end", ["finished", "cancelled", "failed"])
def test_an_edit_is_released_with_its_last_reference(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread keeps neither its arguments nor its result."""
    gc.collect()
    gc.disable()
    try:
        pipeline = served()
        edit = pipeline.open(release.job(1))
        pipeline.advance([edit])
        if end == "failed":
            monkeypatch.setattr(pipeline._pipe.vae, "decode", lambda *_, **__: 1 / 0)
        if end == "cancelled":
            work = edit.pending
            pipeline.close(edit)
            wait(lambda: work is None or work.done())
            work = None
        else:
            release.finish(pipeline, edit)
        gone = weakref.ref(edit.job.image)
        del edit
        wait(lambda: gone() is None)
    finally:
        gc.enable()


def test_the_thread_ends_with_its_pipeline() -> None:
    before = set(threading.enumerate())
    pipeline = served()
    finished(pipeline, release.job(1))
    (thread,) = [each for each in set(threading.enumerate()) - before if each.name == "encoders"]
    assert thread.daemon  # a device that hangs must not keep the process
    del pipeline
    gc.collect()
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_the_worker_with_the_overlap_serves_its_edits_and_ends() -> None:
    """Through the executor, with warm-up and measured limits."""
    pipeline = served()
    alone = [finished(release.served(), release.job(number)) for number in range(4)]
    executor = Executor(lambda: pipeline, CountingObserver(), OperatorLimits(4, None), queue=8)
    executor.start()
    wait(lambda: executor.state is not State.STARTING)
    assert executor.limits.overlap
    handles = executor.submit([pipeline.prepare(release.job(number)) for number in range(4)])
    for handle, edit in zip(handles, alone, strict=True):
        outcome = handle.future.result(LIMIT_S)
        assert edit.result is not None and outcome.result.image.tobytes() == edit.result.image.tobytes()
        assert set(outcome.stages) == {"encode", "denoise", "decode"} and outcome.edit_s > 0
    executor.stop(20)
    assert not executor._thread.is_alive()


@pytest.mark.parametrize(
    ("device", "tuning", "expected"),
    [
        ("cuda", {}, True),
        ("cpu", {}, False),
        ("cpu", {"overlap": True}, True),
        ("cuda", {"overlap": False}, False),
        ("cuda", {"offload": "model"}, False),
        ("cuda", {"offload": "group", "overlap": True}, False),
        ("cuda", {"compile": "inductor"}, True),
        ("cuda", {"compile": "cudagraphs"}, False),
    ],
)
def test_it_is_on_where_a_gpu_has_all_weights(device: str, tuning: dict[str, Any], *, expected: bool) -> None:
    """Offloaded weights come and go with each call, on a stream that two threads would share; a CUDA graph is captured alone."""
    assert overlap(Tuning(**tuning), Device(device)) is expected


class Streams(Device):
    """A CPU that records what a GPU would be told, with the thread."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.order: list[str] = []

    def mark(self) -> Any:
        self.order.append("marked")
        return threading.get_ident()

    def follow(self, mark: Any) -> None:
        assert mark != threading.get_ident()
        self.order.append("followed")

    def hand_over(self, result: Any) -> None:
        self.order.append(f"handed over {result}")


def test_streams_are_ordered_around_each_work() -> None:
    """The arguments are there before it, and the result before anybody reads it."""
    device = Streams()
    thread = SideThread(device)

    def failing() -> Any:
        device.order.append("failed")
        raise ValueError

    works: list[Future[Any]] = [thread.submit(lambda: 7)]
    assert works[0].result(LIMIT_S) == 7
    works.append(thread.submit(failing))
    assert isinstance(works[1].exception(LIMIT_S), ValueError)
    assert device.order == ["marked", "followed", "handed over 7", "marked", "followed", "failed"]


def test_all_tensors_of_a_result_are_found() -> None:
    """Also in diffusers' outputs, which are mappings, and in distributions."""
    one, two = torch.zeros(1, 4, 2, 2), torch.ones(3)
    encoded = AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(one))
    assert any(found is one for found in tensors_in(encoded))
    assert [found is two for found in tensors_in((None, [two, "text", 3], {"a": two}))] == [True, True]
