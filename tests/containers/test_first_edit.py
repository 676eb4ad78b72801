"""The README's steps to a first edit: build, start, create a key, curl, and the openai client."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from openai import OpenAI
from PIL import Image

from tests.containers.conftest import ready
from tests.containers.engine import Engine, Stack, report, until
from tests.containers.test_compose import PHOTO
from tests.doubles.processes import free_port

PROMPT = "make it look like a faded 1970s print"


@pytest.fixture
def keyed(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that requires keys, not started yet."""
    folder = tmp_path_factory.mktemp("keyed")
    stack = Stack(engine, f"etkeyed{os.getpid()}", free_port(), folder)
    yield stack
    stack.down()


@contextmanager
def step(number: int, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    report(f"step {number}, {what}: {time.monotonic() - began:.1f} s")


def test_a_new_user_gets_an_edit_in_five_steps(keyed: Stack) -> None:
    """The first step, building the images, is timed by the fixture that builds them."""
    url = f"http://127.0.0.1:{keyed.port}"
    with step(2, "docker compose up, until it is ready"):
        keyed.up()
        until(lambda: ready(keyed), 60, "the stack is not ready")
    with step(3, "a key"):
        words = ("python", "-m", "orchestrator", "keys", "create", "--tenant", "me")
        output = keyed.engine.podman("exec", keyed.container("orchestrator"), *words)
        found = re.search(r"et_\S+", output)
        assert found, output
        key = found[0]
    with step(4, "curl"):
        form = ["-F", f"image=@{PHOTO}", "-F", f"prompt={PROMPT}", f"{url}/v1/images/edits"]
        without_key = subprocess.run(["curl", "-s", *form], capture_output=True, check=True, timeout=60)
        curl = ["curl", "-sf", "-H", f"Authorization: Bearer {key}", *form]
        reply = subprocess.run(curl, capture_output=True, check=True, timeout=60).stdout
    with step(5, "the openai client"):
        client = OpenAI(base_url=f"{url}/v1", api_key=key)
        with PHOTO.open("rb") as photo:
            edited = client.images.edit(image=photo, prompt=PROMPT)
    assert edited.data and edited.data[0].b64_json

    assert b'"invalid_api_key"' in without_key.stdout
    assert b'"finish_reason":"satisfied"' in reply
    with Image.open(io.BytesIO(base64.b64decode(edited.data[0].b64_json))) as picture, Image.open(PHOTO) as source:
        assert picture.size == source.size
