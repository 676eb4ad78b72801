"""The real vLLM's parser accepts the arguments of all profiles."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from services.thinker.profiles import Profile, arguments, load
from tests.vllm.serving import executable

EVERYTHING = Profile(
    model="m",
    served_name="s",
    dtype="float16",
    quantization="fp8",
    max_model_len=1,
    max_num_seqs=1,
    gpu_memory_utilization=0.5,
    kv_cache_memory_bytes=1,
    min_pixels=1,
    max_pixels=1,
    prefix_caching=False,
    block_size=64,
    mm_processor_cache_gb=0.5,
    mm_processor_cache_type="shm",
    structured_outputs_backend="guidance",
    disable_any_whitespace=False,
    async_scheduling=True,
    mm_encoder_tp_mode="data",
    tensor_parallel_size=2,
    data_parallel_size=2,
    enforce_eager=True,
    extra=("--seed", "1"),
)
BACKENDS = get_args(get_type_hints(Profile)["structured_outputs_backend"])
PROFILES = {
    **load(),
    "every field": EVERYTHING,
    **{backend: Profile(model="m", served_name="s", structured_outputs_backend=backend) for backend in BACKENDS},
}


def _ask(*lists: list[str]) -> list[dict[str, Any]]:
    """The parser's result for each list of words."""
    done = subprocess.run(
        [executable().parent / "python", "-m", "tests.vllm.arguments"],
        input=json.dumps(lists),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=180,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, Any]]:
    """All profiles in one process: importing vLLM is slow."""
    return dict(zip(PROFILES, _ask(*(arguments(profile) for profile in PROFILES.values())), strict=True))


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_vllm_accepts_the_arguments(judged: dict[str, dict[str, Any]], name: str) -> None:
    """No unknown flag, no wrong value, no deprecated option."""
    assert judged[name]["error"] is None
    assert [text for text in judged[name]["warnings"] if "deprecat" in text or "removed" in text] == []


def test_the_check_can_fail() -> None:
    """A misspelt flag, a misspelt key of a JSON value and a wrong value are refused; a deprecated flag is reported."""
    words = arguments(EVERYTHING)
    flag, key, value, old = _ask(
        [*words, "--max-num-sequences", "3"],
        [*words, "--structured-outputs-config", '{"disable_any_whitespaces": true}'],
        [*words, "--mm-encoder-tp-mode", "both"],
        [*words, "--disable-cascade-attn"],
    )
    assert "--max-num-sequences" in flag["error"]
    assert "disable_any_whitespaces" in key["error"]
    assert "mm-encoder-tp-mode" in value["error"]
    assert old["error"] or any("deprecated" in text for text in old["warnings"])
