"""The contract of every thinker, tested on both servers: they look the same to the orchestrator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.thinker_contract import Server, ThinkerContract
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.vllm.serving import BIAS
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


@pytest.fixture(scope="module", params=["vllm", "rules"])
def server(request: pytest.FixtureRequest, vllm: Process, endings: dict[str, str], rules: Server) -> Server:
    """One after the other."""
    if request.param == "rules":
        return rules
    # Random weights would always write up to the constraint's limit.
    sampling = {name: {"logit_bias": {ending: BIAS}} for name, ending in endings.items()}
    return Server(vllm.url, TINY.served_name, sampling)


class TestBoth(ThinkerContract):
    """vLLM with the profile `tiny`, and the rules thinker."""
