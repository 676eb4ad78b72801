"""Failures of edits and of the device: each is somebody's, is told, and reaches nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from services.editor.pipelines.base import Edit, OutOfMemoryError, PipelineBrokenError
from services.editor.pipelines.diffusion.device import Device, as_pipeline_error
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline
from services.errors import ApiError
from tests.component.diffusion.test_families import finished, job, served
from tests.tiny import BUILDERS
from tests.unit.editor import workers

LONG = "word " * 2000
"""More tokens than any family reads."""


def lost() -> Exception:
    return torch.AcceleratorError("CUDA error: unspecified launch failure")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lost(), PipelineBrokenError),
        (torch.AcceleratorError("hipErrorLaunchFailure"), PipelineBrokenError),
        (RuntimeError("HIP error: unspecified launch failure"), PipelineBrokenError),
        (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemoryError),
        (ValueError("no"), None),
    ],
)
def test_what_torch_raises_for_a_lost_device_is_the_devices(error: Exception, kind: type | None) -> None:
    """Also as the cause of what a compiler or an attention backend raises in its place."""
    wrapped = ValueError("the backend failed")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        fault = as_pipeline_error(each)
        assert (None if fault is None else type(fault)) == kind


async def test_what_a_pipeline_raises_is_422_naming_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text, or the picture; not what the library said, which may name paths."""
    pipeline = served("kontext")

    def no_text(*_: Any, **__: Any) -> Any:
        raise ValueError("/secret/path")

    def no_picture(*_: Any, **__: Any) -> Any:
        raise IndexError("/secret/path")

    found = []
    async with workers.running(lambda: pipeline) as app, workers.client(app) as http:
        for number, (name, broken) in enumerate((("encode_prompt", no_text), ("_encode_vae_image", no_picture))):
            with monkeypatch.context() as patch:
                patch.setattr(pipeline._pipe, name, broken)
                found.append(await workers.post(http, prompt=f"new {number}", num_inference_steps=1))
        after = await workers.post(http, prompt="still here", num_inference_steps=1)
    assert [(reply.status_code, reply.json()["error"]["code"]) for reply in found] == [(422, "edit_failed")] * 2
    assert [reply.json()["error"]["param"] for reply in found] == ["prompt", "image"]
    assert not any("secret" in reply.text or "Traceback" in reply.text for reply in found)
    assert after.status_code == 200


def poisoned(pipeline: InterleavedPipeline, value: float, after: int) -> Callable[[], int]:
    """Let the pipeline's model compute ``value`` from its ``after``-th pass on; returns how many passes there were."""
    passes = 0
    forward = pipeline._model.forward

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        passes += 1
        (answer, *rest) = forward(*args, **kwargs)
        if passes >= after:
            answer = answer.clone()
            answer.view(-1)[-1] = value
        return (answer, *rest)

    pipeline._model.forward = broken
    return lambda: passes


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_is_noticed_at_the_next_pass(value: float) -> None:
    """And not after all other steps, as a black picture's error."""
    pipeline = served("kontext")
    passes = poisoned(pipeline, value, 2)
    edit = finished(pipeline, replace(job(), parameters={"num_inference_steps": 20}))
    assert isinstance(edit.error, ApiError) and (edit.error.code, edit.error.param) == ("edit_failed", "prompt")
    assert passes() <= 3 and edit.greenlet is None


def test_what_is_not_a_number_in_one_edit_of_a_batch_is_that_edits() -> None:
    pipeline = served("kontext")
    edits = [pipeline.open(replace(job(), seed=seed, parameters={"num_inference_steps": 6})) for seed in (1, 2)]
    for edit in edits:
        pipeline.advance([edit])
    poisoned(pipeline, float("inf"), 1)
    running: list[Edit] = list(edits)
    while running:
        pipeline.advance(running)
        running = [edit for edit in running if edit.result is None and edit.error is None]
        if edits[1].error is not None:
            break
    assert edits[0].error is None and isinstance(edits[1].error, ApiError)


def test_the_check_does_not_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the flag of a pass is read after the next one was started, when the device has passed it."""
    order: list[str] = []

    class Lagging(Device):
        lags = True

        def finite(self, outputs: Any) -> torch.Tensor:
            order.append("computed")
            return super().finite(outputs)

        def limit_lag(self) -> None:
            order.append("waited")

    pipeline = served("kontext")
    monkeypatch.setattr(pipeline, "_device", Lagging("cpu"))
    passes = poisoned(pipeline, float("nan"), 2)
    edit = finished(pipeline, replace(job(), parameters={"num_inference_steps": 20}))
    assert isinstance(edit.error, ApiError)
    assert passes() == 3 and order == ["computed", "waited"] * 3


def test_infinities_of_the_decoder_are_noticed_although_the_pipeline_clamps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = served("kontext")
    decode = pipeline._pipe.vae.decode

    def infinite(*args: Any, **kwargs: Any) -> Any:
        (picture,) = decode(*args, **kwargs)
        return (torch.where(picture == picture.max(), torch.inf, picture),)

    monkeypatch.setattr(pipeline._pipe.vae, "decode", infinite)
    edit = finished(pipeline, job())
    assert isinstance(edit.error, ApiError) and edit.error.code == "edit_failed"


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_text_that_the_encoder_would_cut_is_refused_with_the_limit(name: str) -> None:
    pipeline = served(name)
    limit = pipeline.capabilities.prompt_tokens
    assert limit is not None and limit >= 64
    with pytest.raises(ApiError, match=rf"prompt has [0-9,]+ tokens, and {name} reads at most {limit:,}: shorten it") as refused:
        pipeline.prepare(replace(job(), prompt=LONG))
    assert (refused.value.code, refused.value.param) == ("invalid_value", "prompt")
    if pipeline.capabilities.negative_prompt:
        with pytest.raises(ApiError, match="negative_prompt has ") as refused:
            pipeline.prepare(replace(job(), negative_prompt=LONG))
        assert refused.value.param == "negative_prompt"


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_longest_text_is_read_to_its_end(name: str) -> None:
    """Its last letter changes the embeddings; one more letter is refused."""
    pipeline = served(name)
    if name == "flux3-klein":
        without_attention(pipeline)
    limit = pipeline.capabilities.prompt_tokens or 0
    fits = longest(pipeline, limit)
    pipeline.prepare(replace(job(), prompt=fits))
    with pytest.raises(ApiError, match="tokens"):
        pipeline.prepare(replace(job(), prompt=f"a{fits}"))
    read = []
    for text in (fits, f"{fits[:-1]}z"):
        edit = pipeline.open(replace(job(), prompt=text))
        pipeline.advance([edit])
        assert edit.error is None and edit.call is not None
        read.append(edit.call.arguments["encoder_hidden_states"])
        pipeline.close(edit)
    assert read[0].shape == read[1].shape and not torch.equal(*read)


def without_attention(pipeline: InterleavedPipeline) -> None:
    """Let the text encoder compute each token alone: with 8192 of them its attention takes half a minute."""
    for layer in pipeline._pipe.text_encoder.model.language_model.layers:
        layer.self_attn.forward = lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)


def longest(pipeline: InterleavedPipeline, limit: int) -> str:
    """The longest text of the letter a that the pipeline takes: in the tiny tokenizers a letter is a token."""
    refused = pipeline._texts.excess("a" * (limit + 100))
    assert refused is not None
    return "a" * (2 * limit + 100 - refused[0])


async def test_the_worker_tells_its_limit() -> None:
    async with workers.running(lambda: served("instruct-pix2pix")) as app, workers.client(app) as http:
        card = (await http.get("/v1/models")).json()["data"][0]
        refused = await workers.post(http, prompt=LONG)
    assert card["capabilities"]["prompt_tokens"] == 75
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")


async def test_a_seed_that_torch_would_shorten_is_refused() -> None:
    """torch's generator of random numbers has 32 bits of seed: 2^32 was 0."""
    async with workers.running(lambda: served("kontext")) as app, workers.client(app) as http:
        largest = await workers.post(http, seed=2**32 - 10, n=2, num_inference_steps=1)
        refused = await workers.post(http, seed=2**32, num_inference_steps=1)
    assert largest.status_code == 200
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "seed")
