"""One scriptable collaborator for all tests of a module."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import httpx
import pytest
import stamina
import stamina.instrumentation

from tests.component.orchestrator.desk import Desk
from tests.doubles.upstreams import serving


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Reading all certificates takes longer than most of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="module")
def open_desk() -> Iterator[Desk]:
    """Started once a module."""
    desk = Desk()
    with serving(desk.application()) as desk.url:
        yield desk


@pytest.fixture
def desk(open_desk: Desk) -> Desk:
    """The desk, empty."""
    open_desk.reset()
    return open_desk


@pytest.fixture
def at_once() -> Iterator[None]:
    """Retries do not wait; how many there are stays as configured."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """Seconds that each retry was put off by, in order."""
    seen: list[float] = []
    stamina.instrumentation.set_on_retry_hooks((lambda details: seen.append(round(details.wait_for, 3)),))
    yield seen
    stamina.instrumentation.set_on_retry_hooks(())
