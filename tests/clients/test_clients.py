"""The clients that are at hand everywhere; `make test-clients` runs all of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import curl
from tests.clients.__main__ import CHECKS
from tests.clients.server import Check, Server, server

pytestmark = pytest.mark.xdist_group("clients")
AWAITED = {
    "openai-python: a list of two pictures": "pictures",
    "openai-python: quality, background, user; usage in the reply": "contract",
    "openai-python: models": "contract",
    "httpx: JSON with a data URL": "contract",
    "curl: `-F image[]=@…` twice": "pictures",
    "curl: `-F image[0]=@… -F image[1]=@…`": "pictures",
    "curl: `-F 'mask=;filename='` (an empty file input)": "contract",
    "curl: `-F quality=high`": "contract",
    "curl: `--json` with a data URL": "contract",
    "curl: `--data-urlencode url@…`": "contract",
    "Open WebUI: second turn, two pictures, model gpt-image-1": "pictures",
    "LibreChat: 2 pictures": "pictures",
    "n8n: 2 pictures, size auto": "pictures",
    "n8n: 1 picture, size auto, background auto, input_fidelity low, output_format webp, output_compression 90": "contract",
    "Dify: a list with one picture, quality high": "contract",
    "load generators' requests: vllm-omni": "contract",
    "load generators' requests: SGLang": "contract",
}
"""What the server does not do yet, and whose work it is; remove a line when its check passes."""


def _parameter(check: Check) -> Any:
    name = f"{check.client}: {check.name}"
    marks = [pytest.mark.xfail(strict=True, reason=AWAITED[name])] if name in AWAITED else []
    return pytest.param(check, id=name, marks=marks)


@pytest.fixture(scope="module")
def stack() -> Iterator[Server]:
    # Redis and the stack's lock want a short path.
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running


@pytest.mark.parametrize("check", [_parameter(check) for check in CHECKS if check.light])
def test_a_client_gets_its_picture(stack: Server, check: Check) -> None:
    if check.client == curl.CURL.name and not shutil.which("curl"):
        pytest.skip("install curl")
    check.run(stack)
