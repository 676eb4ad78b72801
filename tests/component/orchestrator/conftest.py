"""One scriptable collaborator for all tests of a module."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection

import httpx
import pytest
import stamina
import stamina.instrumentation

from orchestrator.ports import collaborators
from orchestrator.ports.collaborators import EditorUsage, RequestTiming
from orchestrator.upstreams import http, liveness
from tests.component.orchestrator.desk import PAUSE_S, Desk, Pace
from tests.doubles.clock import manual_time
from tests.doubles.upstreams import serving


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Reading all certificates takes longer than most of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def readiness_may_take_its_time() -> Iterator[None]:
    """The servers of these tests answer at once, or refuse the connection; a busy machine may be late to see it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "_READY_S", 60.0)
        yield


@pytest.fixture(scope="module")
def open_desk() -> Iterator[Desk]:
    """Started once a module."""
    desk = Desk()
    with serving(desk.application()) as desk.url:
        yield desk


@pytest.fixture
def desk(open_desk: Desk) -> Desk:
    """The desk, empty; a request that an earlier test cancelled does not arrive in this one."""
    with contextlib.closing(HTTPConnection(open_desk.url.removeprefix("http://"))) as connection:
        connection.request("GET", "/quiet")
        connection.getresponse().read()
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


@pytest.fixture
async def pace(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pace]:
    """The time by which requests are measured passes where the test says so, and with each pause between two of them."""
    loop = asyncio.get_running_loop()
    made = Pace(manual_time(monkeypatch, http, liveness, collaborators), loop)
    began, since = made.now(), loop.time
    # What waits for a time waits for this one.
    monkeypatch.setattr(loop, "time", lambda: since() + made.now() - began)
    start = EditorUsage.start_request

    def started(usage: EditorUsage) -> RequestTiming:
        made.request = start(usage)
        return made.request

    monkeypatch.setattr(EditorUsage, "start_request", started)
    stamina.instrumentation.set_on_retry_hooks((lambda _: made.pass_by(PAUSE_S),))
    yield made
    stamina.instrumentation.set_on_retry_hooks(())
