"""One real server for all tests, and the tiny models it serves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.doubles.processes import Process
from tests.vllm import serving
from tests.vllm.serving import serve, write_model

if "EDITTHINKER_VLLM" not in os.environ:
    # Installing vLLM takes minutes, so it is opt-in: `make test-vllm` sets the variable.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-VL."""
    return write_model("qwen3_vl", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def vllm(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The profile `tiny`, served."""
    with serve("tiny", tiny_model, tmp_path_factory.mktemp("vllm")) as process:
        yield process


@pytest.fixture(scope="session")
def endings(tiny_model: Path) -> dict[str, str]:
    """See `tests.vllm.serving.endings`."""
    return serving.endings(tiny_model)


@pytest.fixture
def client(vllm: Process) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=vllm.url, timeout=180, trust_env=False) as client:
        yield client
