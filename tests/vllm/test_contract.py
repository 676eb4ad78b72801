"""The contract of every thinker, tested on each server: they look the same to the orchestrator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.thinker_contract import Server, ThinkerContract
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.vllm import serving
from tests.vllm.serving import BIAS, MINIATURE, serve
from tests.vllm.test_server import TINY


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded thinker."""
    process = module("services.thinker", free_port(), tmp_path_factory.mktemp("rules") / "log", "--profile", "rules")
    try:
        wait_ready(process)
        yield Server(process.url, "rules")
    finally:
        process.stop()


@pytest.fixture(scope="module")
def tiny(vllm: Process, endings: dict[str, str]) -> Server:
    """Random weights, which would always write up to the constraint's limit."""
    return Server(vllm.url, TINY.served_name, _ended(endings))


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A trained model of `make miniature`."""
    model = Path(os.environ[MINIATURE]).absolute()
    with serve("miniature", model, tmp_path_factory.mktemp("miniature")) as process:
        yield Server(process.url, "miniature", _ended(serving.endings(model)))


def _ended(endings: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"logit_bias": {ending: BIAS}} for name, ending in endings.items()}


@pytest.fixture(scope="module", params=["tiny", "rules", *(["miniature"] if MINIATURE in os.environ else [])])
def server(request: pytest.FixtureRequest) -> Server:
    """One after the other."""
    asked: Server = request.getfixturevalue(request.param)
    return asked


class TestEach(ThinkerContract):
    """vLLM with the profile `tiny`, the rules thinker, and vLLM with a trained model where one is named."""
