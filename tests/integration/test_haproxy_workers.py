"""The editor pool with real workers that end: with notice, and without."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from services.errors import TABLE
from tests.doubles.haproxy import HAProxy, NoHAProxyError, haproxy, haproxy_binary, start_haproxy
from tests.doubles.pool import workers
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.doubles.upstreams import picture

CALLERS = 6
Post = Callable[[str], Awaitable[httpx.Response]]


@pytest.fixture(autouse=True, scope="module")
def binary() -> str:
    """The real one; where it cannot be had, these tests say what to install."""
    try:
        return haproxy_binary()
    except NoHAProxyError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def editors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Three real workers; one test ends the first, another the last."""
    folder = tmp_path_factory.mktemp("editors")
    made = [module("services.editor", free_port(), folder / f"editor{place}.log") for place in range(3)]
    for process in made:
        wait_ready(process)
    yield made
    for process in made:
        process.stop()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as made:
        yield made


@dataclass
class Load:
    """Callers who ask for one edit after the other, until told to stop."""

    stop: bool = False
    replies: list[tuple[str, httpx.Response]] = field(default_factory=list)

    async def call(self, name: int, post: Post) -> None:
        number = 0
        while not self.stop:
            key = f"{name}-{number}"
            self.replies.append((key, await post(key)))
            number += 1

    async def more(self, count: int) -> None:
        """Wait for so many more replies."""
        wanted, ends = len(self.replies) + count, time.monotonic() + 30
        while len(self.replies) < wanted:
            assert time.monotonic() < ends, "the callers get no replies"
            await asyncio.sleep(0.01)

    @property
    def failed(self) -> list[tuple[str, httpx.Response]]:
        return [(key, reply) for key, reply in self.replies if reply.status_code != httpx.codes.OK]


def asking(client: httpx.AsyncClient, proxy: HAProxy) -> Post:
    source = picture(900, 700)

    async def post(key: str) -> httpx.Response:
        files = {"image": ("a.png", source, "image/png")}
        fields = {"prompt": "make it brighter", "seed": "1"}
        headers = {"idempotency-key": key}
        return await client.post(f"{proxy.url}/v1/images/edits", data=fields, files=files, headers=headers)

    return post


async def gone(process: Process) -> None:
    ends = time.monotonic() + 30
    while process.popen.poll() is None:
        assert time.monotonic() < ends, "the worker does not end"
        await asyncio.sleep(0.01)


async def test_a_worker_told_to_stop_loses_nothing(editors: list[Process], client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A worker that gets SIGTERM under load finishes what it has, gets no more, and no caller sees it go."""
    leaving, staying = editors[0], editors[1]
    with haproxy(tmp_path, [f"127.0.0.1:{process.port}" for process in (leaving, staying)], maxconn=2) as proxy:
        load, post = Load(), asking(client, proxy)
        callers = [asyncio.create_task(load.call(name, post)) for name in range(CALLERS)]
        await load.more(10)
        leaving.popen.send_signal(signal.SIGTERM)
        await gone(leaving)
        await load.more(10)
        load.stop = True
        await asyncio.gather(*callers)
    assert leaving.popen.returncode in {0, -signal.SIGTERM}  # uvicorn ends by the signal, once it is done
    assert [(key, reply.status_code, reply.text) for key, reply in load.failed] == []


async def test_a_killed_worker_fails_what_it_ran(editors: list[Process], client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A worker killed with -9 fails the edits it had, as a 502 to be repeated with their key, and no other."""
    dying, staying = editors[2], editors[1]
    with haproxy(tmp_path, [f"127.0.0.1:{process.port}" for process in (dying, staying)], maxconn=2) as proxy:
        load, post = Load(), asking(client, proxy)
        callers = [asyncio.create_task(load.call(name, post)) for name in range(CALLERS)]
        await load.more(10)
        dying.kill()
        await load.more(20)
        load.stop = True
        await asyncio.gather(*callers)
        # What it ran, and at most as many more that took their places while the kernel was closing its sockets.
        assert len(load.failed) <= 4
        for key, reply in load.failed:
            error = reply.json()["error"]
            assert (reply.status_code, error["code"]) == (502, "editor_failed")
            assert error["type"] == TABLE["editor_failed"].blame
            assert float(reply.headers["retry-after"]) > 0
            assert (await post(key)).status_code == httpx.codes.OK


async def test_the_proxy_itself_can_be_killed(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """HAProxy killed with -9 and started again on its port serves at once."""
    with workers(1) as [worker]:
        first = start_haproxy(tmp_path, [worker.address])
        first.kill()
        second = start_haproxy(tmp_path, [worker.address], port=first.port)
        try:
            assert (await client.post(f"{first.url}/v1/images/edits")).status_code == httpx.codes.OK
        finally:
            second.stop()


async def test_sigusr1_lets_running_edits_finish(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """HAProxy's own stop (SIGUSR1) ends it when the edits that run have been answered."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address]) as proxy:
        worker.hold = True
        running = asyncio.create_task(client.post(f"{proxy.url}/v1/images/edits"))
        while not worker.active:
            await asyncio.sleep(0.01)
        proxy.popen.send_signal(signal.SIGUSR1)
        while True:
            try:
                await client.get(f"{proxy.url}/healthz", headers={"connection": "close"})
            except httpx.ConnectError:
                break
            except (httpx.ReadError, httpx.RemoteProtocolError):
                # It was waiting to be accepted when the listener was closed.
                continue
        worker.hold = False
        assert (await running).status_code == httpx.codes.OK
        await gone(proxy)
