"""The clients that are at hand everywhere; `make test-clients` runs all of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import curl
from tests.clients.__main__ import CHECKS, HEAD, updated
from tests.clients.server import Check, Server, installed, server

pytestmark = pytest.mark.xdist_group("clients")


@pytest.fixture(scope="module")
def stack() -> Iterator[Server]:
    # Redis and the stack's lock want a short path.
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running


@pytest.mark.parametrize("check", [pytest.param(check, id=f"{check.client}: {check.name}") for check in CHECKS if check.light])
def test_a_client_gets_its_picture(stack: Server, check: Check) -> None:
    if check.client == curl.CURL.name and not shutil.which("curl"):
        pytest.skip("install curl")
    check.run(stack)


def test_rows_of_clients_that_were_not_run_stay_in_the_page() -> None:
    page = f"# Clients\n\n{HEAD}| a | 1 | fails |\n| b | 1 | works |\n\nText\n\n| client | limit |\n"
    run = {"a": "| a | 2 | works |\n", "c": "| c | 1 | works |\n"}
    assert updated(page, run) == page.replace("| a | 1 | fails |", "| a | 2 | works |").replace("\n\nText", f"\n{run['c']}\nText")


def test_a_relative_folder_of_clients_is_found_from_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Node runs next to its packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITTHINKER_CLIENTS", "clients")
    assert installed() == tmp_path / "clients"
