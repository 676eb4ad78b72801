"""Tuning options: each has an effect, and none mixes edits."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import CpuOffload, UserCpuOffloadHook  # type: ignore[import-untyped]
from diffusers.hooks.hooks import HookRegistry, StateManager
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines.base import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import Tuning
from tests.doubles.diffusion import source
from tests.doubles.waiting import wait
from tests.tiny import BUILDERS
from tests.unit.editor.interleaved import CountingObserver

PIXELS = 64 * 64
CPU = Device("cpu")


def served(family: str = "kontext", **tuning: Any) -> InterleavedPipeline:
    described = importlib.import_module(DIFFUSION[family][0]).FAMILY
    return serve(described, BUILDERS[family](), CPU, Tuning(pixels=PIXELS, **tuning))


def job(number: int, steps: int = 6) -> EditJob:
    return EditJob(source(number), f"instruction {number}", number, parameters={"num_inference_steps": steps}, source=str(number))


def picture(edit: InterleavedEdit) -> np.ndarray:
    assert edit.error is None and edit.result is not None
    return np.asarray(edit.result.image).astype(int)


def alone(pipeline: InterleavedPipeline, wanted: EditJob) -> np.ndarray:
    edit = pipeline.open(wanted)
    while edit.result is None and edit.error is None:
        pipeline.advance([edit])
    return picture(edit)


def contexts(pipeline: InterleavedPipeline) -> list[str]:
    """The names of all contexts with state in a cache."""
    registry = HookRegistry.check_if_exists_or_initialize(pipeline._model)
    hooks = [hook for child in (registry, *registry._get_child_registries()) for hook in child.hooks.values()]
    states = [state for hook in hooks for state in vars(hook).values() if isinstance(state, StateManager)]
    return [name for state in states for name in state._state_cache]


@pytest.mark.parametrize(
    ("family", "cache"),
    [
        ("kontext", "first_block"),
        ("kontext", "taylorseer"),
        ("qwen-image-edit", "first_block"),
        ("longcat-image-edit", "taylorseer"),
    ],
)
def test_edits_with_a_step_cache_are_interleaved_and_each_equals_the_edit_alone(family: str, cache: str) -> None:
    """Caches are per edit; that of a dropped edit is removed."""
    pipeline = served(family, cache=cache, cache_threshold=0.3)
    jobs = [job(number, steps) for number, steps in ((1, 6), (2, 4), (3, 8))]
    wanted = [alone(pipeline, each) for each in jobs]
    edits = [pipeline.open(each) for each in (*jobs, job(4, 9))]
    gone = edits[-1]
    for turn in range(40):
        for edit in edits:
            if edit.result is None and not (edit is gone and turn > 4):
                pipeline.advance([edit])
                assert edit.error is None
                assert edit.group is None
        if turn == 4:
            assert any(name.startswith(f"{gone.number}/") for name in contexts(pipeline))
            pipeline.close(gone)
            assert not any(name.startswith(f"{gone.number}/") for name in contexts(pipeline))
    assert [np.array_equal(picture(edit), want) for edit, want in zip(edits[:3], wanted, strict=True)] == [True] * 3
    assert contexts(pipeline) == []


def test_calls_without_a_cache_context_are_distinguished_by_their_index_in_the_step() -> None:
    """The two calls of a guided step must not share a cache."""
    pipeline = served(cache="taylorseer")
    guided = {"num_inference_steps": 4, "true_cfg_scale": 3}
    edit = pipeline.open(EditJob(source(1), "instruction", 1, negative_prompt="ugly", parameters=guided, source="1"))
    seen = []
    while edit.result is None and edit.error is None:
        pipeline.advance([edit])
        seen.append(sorted(set(contexts(pipeline))))
    assert edit.error is None and edit.calls_done == 8
    one, two = f"{edit.number}/0", f"{edit.number}/1"
    assert seen == [[], [one], *[[one, two]] * 6, []]


def test_a_cache_skips_work() -> None:
    """The other blocks run less often than the first one."""
    pipeline = served(cache="first_block", cache_threshold=0.5)
    counts = {"first": 0, "last": 0}
    blocks = pipeline._model.transformer_blocks[0].attn, pipeline._model.single_transformer_blocks[-1].attn
    for name, block in zip(counts, blocks, strict=True):

        def count(*_: Any, name: str = name) -> None:
            counts[name] += 1

        block.register_forward_hook(count)
    alone(pipeline, job(1, 10))
    assert counts["first"] == 10 > counts["last"] >= 1


def test_an_unsupported_step_cache_is_refused_at_load() -> None:
    """The message names the supported ones."""
    with pytest.raises(ValueError, match=r"longcat-image-edit does not work with the cache first_block .*taylorseer"):
        served("longcat-image-edit", cache="first_block")


@pytest.mark.parametrize(
    "tuning",
    [{"compile": "aot_eager"}, {"offload": "group"}, {"offload": "model"}, {"attention": "_native_math"}],
    ids="-".join,
)
def test_exact_options_do_not_change_the_picture(tuning: dict[str, Any]) -> None:
    """Up to rounding: at most one level of 255."""
    assert np.abs(alone(served(**tuning), job(1)) - alone(served(), job(1))).max() <= 1


def test_with_model_offload_one_model_is_on_the_device_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in plain diffusers, also after a cancelled edit; so only one edit may be started at a time."""
    pipeline = served(offload="model")
    assert pipeline.max_active == 1
    assert served().max_active is None and served(offload="group").max_active is None
    there: set[int] = set()
    together: list[set[int]] = []

    def arrive(hook: CpuOffload, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if hook.prev_module_hook is not None:
            there.discard(id(hook.prev_module_hook.model))
        there.add(id(module))
        together.append(set(there))
        return args, kwargs

    monkeypatch.setattr(CpuOffload, "pre_forward", arrive)
    monkeypatch.setattr(UserCpuOffloadHook, "offload", lambda hook: there.discard(id(hook.model)))
    stopped = pipeline.open(job(1))
    for _ in range(3):
        pipeline.advance([stopped])
    pipeline.close(stopped)
    alone(pipeline, job(2))
    model = id(pipeline._model)
    texts = {id(pipeline._pipe.text_encoder), id(pipeline._pipe.text_encoder_2)}
    assert any(model in each for each in together) and any(texts & each for each in together)
    assert not any(model in each and texts & each for each in together)


def test_weights_in_fp8_change_the_picture_a_little() -> None:
    """And are stored in fp8."""
    pipeline = served(quantization="fp8")
    assert any(parameter.dtype == torch.float8_e4m3fn for parameter in pipeline._model.parameters())
    difference = np.abs(alone(pipeline, job(1)) - alone(served(), job(1)))
    assert 0 < difference.mean() < 10


def test_a_lora_is_fused(tmp_path: Path) -> None:
    """Its strength has an effect; a few-step one sets its schedule and defaults."""
    pipe = BUILDERS["qwen-image-edit"]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    for name, parameter in pipe.transformer.named_parameters():
        if "lora_" in name:
            parameter.data.mul_(8)  # random ones move a picture of random weights too little to be seen
    pipe.save_lora_weights(tmp_path, transformer_lora_layers=get_peft_model_state_dict(pipe.transformer))
    base = alone(served("qwen-image-edit"), job(1))
    off = served("qwen-image-edit", lora=str(tmp_path), lora_scale=0.0)
    on = served("qwen-image-edit", lora=str(tmp_path), lora_scale=1.0)
    few = served("qwen-image-edit", lora=str(tmp_path), few_steps=4)
    assert np.abs(alone(off, job(1)) - base).max() <= 1
    assert np.abs(alone(on, job(1)) - base).max() > 1
    parameters = few.capabilities.parameters
    assert (parameters["num_inference_steps"].default, parameters["true_cfg_scale"].default) == (4, 1)
    assert few._pipe.scheduler.config.base_shift == few._pipe.scheduler.config.max_shift == pytest.approx(1.0986, abs=1e-3)
    assert few.open(EditJob(source(1), "x")).calls == 4


def test_a_dtype_must_be_one_of_the_three() -> None:
    """Others are refused at load."""
    from services.editor.pipelines.diffusion.tuning import dtype  # noqa: PLC0415

    assert dtype(Tuning(), CPU) is torch.float32
    assert dtype(Tuning(dtype="bfloat16"), CPU) is torch.bfloat16
    with pytest.raises(ValueError, match="choose one of bfloat16, float16, float32"):
        dtype(Tuning(dtype="int8"), CPU)


def test_an_operator_s_batch_holds_for_prompts_longer_than_the_warm_up_s() -> None:
    """Although Qwen's text counts towards the cost of a pass."""
    pipeline, observer = served("qwen-image-edit"), CountingObserver()
    executor = Executor(lambda: pipeline, observer, OperatorLimits(4, 2), queue=8)
    executor.start()
    wait(lambda: executor.state is not State.STARTING)
    observer.batches.clear()
    prompt = "make the whole scene feel like golden hour at the sea, with long soft shadows and haze"
    jobs = [replace(job(number), prompt=prompt) for number in range(4)]
    for handle in executor.submit([pipeline.prepare(each) for each in jobs]):
        handle.future.result(60)
    executor.stop(20)
    assert max(observer.batches) == 2
