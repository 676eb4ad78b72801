"""Fixtures: the images, built once, and a stack of containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.engine import Engine, Stack, compose_file, report, until
from tests.doubles.processes import free_port

if "EDITTHINKER_CONTAINERS" not in os.environ:
    # These tests need root, Debian packages and a few minutes, so only `make test-containers` enables them.
    collect_ignore_glob = ["test_*.py"]

BUILT = ("orchestrator", "editor", "thinker")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Podman, as `prepare.sh` left it."""
    return Engine(Path(os.environ["EDITTHINKER_CONTAINERS"]).resolve())


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    """The compose file's images for the CPU by service, built from their Dockerfiles; reports times and sizes."""
    services = compose_file()["services"]
    built, base = {}, int(engine.inspect("python:3.11-slim-bookworm", "{{.Size}}"))
    report(f"\nbase: {base / 1e6:.0f} MB (debootstrap)")
    for name in BUILT:
        seconds = engine.build(services[name])
        built[name] = services[name]["image"]
        size = int(engine.inspect(built[name], "{{.Size}}"))
        report(f"{name}: {size / 1e6:.0f} MB, {(size - base) / 1e6:.0f} MB of it on top of the base; built in {seconds:.0f} s")
    return built


@pytest.fixture(scope="session")
def stack(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """``docker compose --profile cpu up``, ready."""
    stack = Stack(
        engine,
        f"ettest{os.getpid()}",
        free_port(),
        tmp_path_factory.mktemp("compose"),
        settings={"EDITTHINKER_ALLOW_OPEN": "true"},
    )
    try:
        stack.up()
        try:
            until(lambda: ready(stack), 60, "the stack is not ready")
        except AssertionError as exc:
            logs = "\n".join(engine.logs(name) for name in stack.containers())
            raise AssertionError(f"{exc}\n{logs}") from exc
        yield stack
    finally:
        stack.down()


def ready(stack: Stack) -> bool:
    """Whether the orchestrator is ready."""
    try:
        return httpx.get(f"http://127.0.0.1:{stack.port}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
