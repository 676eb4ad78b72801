"""The clients that are at hand everywhere; `make test-clients` runs all of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import curl
from tests.clients.__main__ import CHECKS
from tests.clients.server import Check, Server, server

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
