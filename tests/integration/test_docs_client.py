"""docs/client.md: its blocks run in order, as a reader would paste them, against a real embedded stack; and it has every call."""

from __future__ import annotations

import base64
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

import editthinker
from editthinker import EditThinker
from editthinker.client import Images, Models, Sessions, Webhooks
from editthinker.local import Stack

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REDIS_URL", "EDITTHINKER_EDITORS", "EDITTHINKER_THINKERS", "EDITTHINKER_REGISTRY"):
            patch.delenv(name, raising=False)
        with Stack(tmp_path_factory.mktemp("home")) as running:
            yield running.base_url


async def test_every_block_runs(stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITTHINKER_BASE_URL", stack)
    monkeypatch.delenv("EDITTHINKER_API_KEY", raising=False)
    shutil.copy(ROOT / "examples" / "photos" / "coffee.jpg", "photo.jpg")
    scope: dict[str, Any] = {"__name__": "page"}
    assert len(BLOCKS) > 15
    python = "\n\n".join(code for language, code in BLOCKS if language == "python")
    # In a thread, because one block runs an event loop of its own.
    import asyncio  # noqa: PLC0415 - this test's alone

    await asyncio.to_thread(exec, compile(python, "docs/client.md", "exec"), scope)
    names = {"golden.png", "brighter.png", "print.jpg", "brighter-1.webp", "brighter-2.webp"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert (scope["best"][:4], scope["first"][:4], scope["source"][:3]) == (b"\x89PNG", b"\x89PNG", b"\xff\xd8\xff")
    await receives(scope)


async def receives(scope: dict[str, Any]) -> None:
    """The page's receiver takes what the library of Standard Webhooks signs, once, and nothing else."""
    (secret,) = re.findall(r"whsec_\w+", inspect.cleandoc(PAGE))
    body = json.dumps({"type": "session.finished", "timestamp": "2026-11-29T10:00:00Z", "data": {"id": "ses_1"}})
    at = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(scope["app"]), base_url="http://hooks") as caller:
        assert [(await caller.post("/hooks", content=body, headers=headers)).status_code for _ in range(2)] == [204, 204]
        headers["webhook-signature"] = "v1," + base64.b64encode(b"0" * 32).decode()
        assert (await caller.post("/hooks", content=body, headers=headers)).status_code == 400
    assert scope["seen"] == {"msg_1"}


def test_every_command_runs(stack: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "photos" / "coffee.jpg", tmp_path / "photo.jpg")
    script = "\n".join(code for language, code in BLOCKS if language == "bash")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "EDITTHINKER_BASE_URL": stack}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "make it feel like golden hour" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 photos: 2 there already; results in edited"
    for folder in ("golden", "edited"):
        assert sorted(path.name for path in (tmp_path / folder).glob("*.jpg")) == ["first.jpg", "second.jpg"]


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (EditThinker, "client"),
        (Sessions, "client.sessions"),
        (Images, "client.images"),
        (Models, "client.models"),
        (Webhooks, "client.webhooks"),
    ],
)
def test_every_call_is_in_a_block(kind: type, prefix: str) -> None:
    code = "\n".join(block for _, block in BLOCKS)
    inner = {"perform", "follow", "stream", "feed"}
    names = [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_") and name not in inner]
    assert names
    assert [name for name in names if f"{prefix}.{name}" not in code] == []


def test_every_exported_error_is_on_the_page() -> None:
    errors = [name for name in editthinker.__all__ if name.endswith("Error")]
    assert len(errors) > 10
    assert [name for name in errors if f"`{name}`" not in PAGE] == []
