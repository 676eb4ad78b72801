"""The embedded thinker does what the orchestrator needs of every thinker; `tests.vllm.test_contract` asks vLLM the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.thinker_contract import Server, ThinkerContract
from tests.doubles.processes import free_port, module, wait_ready


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process of its own."""
    process = module("services.thinker", free_port(), tmp_path_factory.mktemp("rules") / "log", "--profile", "rules")
    try:
        wait_ready(process)
        yield Server(process.url, "rules")
    finally:
        process.stop()


class TestRules(ThinkerContract):
    """The rules thinker."""
