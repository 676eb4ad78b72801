"""Speed presets: what each adds by family and device, and that a worker says what it applied."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np
import pytest
import torch

from services.editor.pipelines.diffusion import attention, parallel, speed
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.registry import DIFFUSION
from services.editor.pipelines.tuning import LoraModule, Tuning
from tests.component.diffusion.test_tuning import alone, job, served
from tests.tiny import BUILDERS

CPU = Device("cpu")
H200 = speed.Abilities((9, 0), "_flash_3", compiler=True, torchao=True)


def family(name: str) -> Family:
    described: Family = importlib.import_module(DIFFUSION[name][0]).FAMILY
    return described


def applied(name: str, able: speed.Abilities = H200, **tuning: Any) -> dict[str, str]:
    resolved, report = speed.preset(Tuning(**tuning), family(name), able)
    knobs = {knob: getattr(resolved, knob) for knob in ("attention", "compile", "quantization", "cache")}
    assert report.applied == {knob: value for knob, value in knobs.items() if value is not None}
    return dict(report.applied)


@pytest.mark.parametrize(
    ("name", "tuning", "expected"),
    [
        ("kontext", {}, {}),
        ("kontext", {"speed": "fast"}, {"attention": "_flash_3", "compile": "inductor", "quantization": "float8dq"}),
        ("kontext", {"speed": "turbo"}, {"attention": "_flash_3", "cache": "first_block"}),
        ("qwen-image-2.1", {"speed": "fast"}, {"attention": "_flash_3", "compile": "inductor"}),
        ("qwen-image-2.1", {"speed": "turbo"}, {"attention": "_flash_3", "compile": "inductor"}),
        ("longcat-image-edit", {"speed": "turbo"}, {"attention": "_flash_3", "cache": "taylorseer"}),
        ("flux2-klein", {"speed": "turbo"}, {"attention": "_flash_3", "compile": "inductor"}),
    ],
)
def test_a_preset_depends_on_the_family(name: str, tuning: dict[str, Any], expected: dict[str, str]) -> None:
    """Caches only where the family has one and the steps are many, fp8 only where it is known to hold."""
    assert applied(name, **tuning) == expected


def test_what_the_operator_chose_wins_over_the_preset() -> None:
    """Also what they chose not to have, and in exact."""
    chosen: dict[str, Any] = {"attention": "sage", "compile": "off", "quantization": "fp8", "cache": "taylorseer"}
    assert applied("kontext", speed="turbo", **chosen) == {
        "attention": "sage",
        "quantization": "fp8",
        "cache": "taylorseer",
    }
    assert applied("kontext", speed="turbo", cache="off")["compile"] == "inductor"
    assert applied("kontext", compile="inductor", cache="off") == {"compile": "inductor"}


@pytest.mark.parametrize(
    ("able", "tuning", "reason"),
    [
        (speed.Abilities((8, 0), "flash", compiler=True, torchao=True), {}, "quantization: the device does not multiply fp8"),
        (speed.Abilities((9, 0), "flash", compiler=True), {}, "quantization: torchao is not installed"),
        (speed.Abilities((9, 0), "flash", torchao=True), {"cache": "off"}, "compile: there is no GPU with Triton"),
        (H200, {"loras": (LoraModule("a", "x"),), "cache": "off"}, "compile: blocks would be compiled again"),
        (H200, {"offload": "group", "cache": "off"}, "compile: weights are offloaded"),
        (H200, {}, "compile: blocks with a step cache are not compiled"),
        (H200, {}, "quantization: it gains only in compiled blocks"),
        (H200, {"parallel": "ulysses"}, "cache: each process would decide on its own what to skip"),
        (H200, {"lora": "x", "few_steps": 4}, "cache: 4 steps leave little to skip"),
        (speed.Abilities((9, 0), compiler=True, torchao=True), {}, "attention: kontext has no choice of backends"),
    ],
)
def test_what_a_preset_leaves_out_is_said_with_the_reason(able: speed.Abilities, tuning: dict[str, Any], reason: str) -> None:
    _, report = speed.preset(Tuning(speed="turbo", **tuning), family("kontext"), able)
    assert any(each.startswith(reason) for each in report.left_out)


def test_attention_backends_are_tried_in_order_and_those_that_fail_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine without the packages falls back to torch's own kernel."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(attention, "candidates", lambda _: ("_flash_3", "flash", "native"))
    assert attention.best(BUILDERS["kontext"]().transformer, CPU, masked=True) == "native"
    assert [record.getMessage().split(" does")[0] for record in caplog.records] == [
        "the attention backend _flash_3",
        "the attention backend flash",
    ]
    assert attention.best(BUILDERS["instruct-pix2pix"]().unet, CPU, masked=False) is None


def test_every_candidate_is_a_backend_of_diffusers() -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName  # noqa: PLC0415 - for this test alone

    names = {name for capability in (None, (8, 0), (9, 0), (10, 0)) for name in attention.candidates(capability)}
    assert names <= {backend.value for backend in AttentionBackendName}


def test_on_a_cpu_fast_is_exact_and_says_what_it_could_not_do() -> None:
    """Turbo skips work."""
    fast, turbo = served(speed="fast"), served(speed="turbo")
    report = fast.capabilities.speed
    assert (report.preset, dict(report.applied)) == ("fast", {"attention": "native"})
    assert report.left_out == ("compile: there is no GPU with Triton", "quantization: the device does not multiply fp8")
    assert np.array_equal(alone(fast, job(1)), alone(served(), job(1)))
    assert turbo.capabilities.speed.applied["cache"] == "first_block"
    assert turbo.open(job(1)).group is None
    alone(turbo, job(1))


@pytest.mark.parametrize(
    ("name", "tuning", "message"),
    [
        ("kontext", {"attention": "flash"}, "flash"),
        ("kontext", {"attention": "_native_cudnn"}, "_native_cudnn does not work here"),
        ("kontext", {"quantization": "float8dq"}, "float8dq needs"),
        ("kontext", {"compile": "aot_eager", "cache": "first_block"}, "leave one of them out"),
    ],
)
def test_an_option_that_cannot_work_here_is_refused_at_load(name: str, tuning: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        served(name, **tuning)


def test_a_backend_is_tried_in_the_dtype_that_is_computed_in() -> None:
    """Not in that of the stored weights."""
    alone(served(quantization="fp8", attention="native"), job(1))


def test_a_wrong_kernel_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "dispatch_attention_fn", lambda query, *_, **__: torch.zeros_like(query))
    with pytest.raises(ValueError, match="wrong values"):
        attention.probe("native", CPU, torch.float32, 16, masked=False)


@pytest.mark.parametrize(
    ("environment", "name", "message"),
    [
        ({}, "cpu", "start the worker with torchrun"),
        ({"WORLD_SIZE": "4", "RANK": "0", "LOCAL_WORLD_SIZE": "2"}, "cuda", "works on one machine"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "cuda:1", "leave device out"),
    ],
)
def test_parallel_needs_processes_on_this_machine_and_gives_each_its_gpu(
    environment: dict[str, str], name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        parallel.device_of(name)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (parallel.device_of("cuda"), parallel.device_of("cpu")) == ("cuda:1", "cpu")


@pytest.mark.parametrize("name", ["qwen-image-2.1", "longcat-image-edit", "instruct-pix2pix"])
def test_a_model_that_diffusers_cannot_split_is_refused(name: str) -> None:
    pipe = BUILDERS[name]()
    with pytest.raises(ValueError, match="leave parallel out"):
        parallel.split(getattr(pipe, family(name).denoiser), CPU)


def test_an_object_with_a_state_is_not_sent_to_other_processes() -> None:
    """As the kept keys and values of `flux2-klein-kv`."""
    with pytest.raises(ValueError, match="kv_cache is a object, which stays in one process"):
        parallel._described("kv_cache", object(), [])
