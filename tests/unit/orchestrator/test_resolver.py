"""Name resolution: on threads of its own, bounded for each tenant and name, and in time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.egress.fetch import fetch_image
from orchestrator.egress.resolver import NameResolver, ResolutionTimeoutError
from services.errors import ApiError
from tests.component.orchestrator.test_webhooks import MemoryStore, endpoint, sender
from tests.doubles.waiting import LIMIT_S, until


class Names:
    """A resolver that is silent about names that begin with `slow` until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.release.wait(30)
        if host.startswith("nobody"):
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.release.set()


async def unreserved(size: int) -> None:
    """Nothing else holds bytes."""


async def test_names_that_do_not_resolve_block_no_image_decoding(names: Names) -> None:
    """Images are decoded on the event loop's executor, which has few threads."""
    webhooks, resolver = sender(MemoryStore()), NameResolver()
    async with asyncio.TaskGroup() as tasks:
        urls = [f"https://slow-{number}.example/" for number in range(40)]
        asked = [tasks.create_task(webhooks.test("ann", endpoint(url=url), "msg_1")) for url in urls]
        fetched = [
            tasks.create_task(fetch_image(url, max_bytes=1, param="image", tenant="bob", resolver=resolver, reserve=unreserved))
            for url in urls
        ]
        await until(lambda: len(names.asked) >= 16)
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "decoded") == "decoded"
        for task in (*asked, *fetched):
            task.cancel()


async def test_resolutions_are_bounded_by_tenant_and_by_name(names: Names) -> None:
    """A waiting resolution starts when another one ends; other tenants are not delayed."""
    resolver = NameResolver(max_concurrent=4, max_per_tenant=3, max_per_name=2)
    slow = [asyncio.create_task(resolver.resolve("slow.example", 443, "ann")) for _ in range(9)]
    await until(lambda: len(names.asked) == 2)
    assert await resolver.resolve("fast.example", 443, "ann") == ["127.0.0.1"]
    slow += [asyncio.create_task(resolver.resolve("slower.example", 443, "ann")) for _ in range(9)]
    await until(lambda: len(names.asked) == 4)
    late = asyncio.create_task(resolver.resolve("fast.example", 443, "ann"))
    assert await resolver.resolve("fast.example", 443, "bob") == ["127.0.0.1"]
    assert not late.done()
    assert names.asked.count("slow.example") == 2 and names.asked.count("slower.example") == 1
    names.release.set()

    assert await asyncio.gather(late, *slow) == [["127.0.0.1"]] * 19
    assert not resolver._in_flight


async def test_capacity_is_released_when_the_thread_ends_and_not_when_the_caller_gives_up(names: Names) -> None:
    """Otherwise threads for slow names would exceed the bound."""
    resolver = NameResolver(max_per_name=1, timeout_s=0.02)
    for _ in range(3):
        with pytest.raises(ResolutionTimeoutError, match=r"within 0\.02 s"):
            await resolver.resolve("slow.example", 443, "ann")
    await until(lambda: names.asked)
    names.release.set()
    await until(lambda: not resolver._in_flight)
    assert names.asked == ["slow.example"]
    resolver._timeout_s = LIMIT_S
    assert await resolver.resolve("fast.example", 443, "ann") == ["127.0.0.1"]


async def test_a_resolution_that_takes_too_long_is_reported(names: Names) -> None:
    """For image URLs and for webhooks."""
    resolver = NameResolver(timeout_s=0.02)
    with pytest.raises(ApiError) as caught:
        await fetch_image(
            "https://slow.example/x.png", max_bytes=1, param="mask", tenant="ann", resolver=resolver, reserve=unreserved
        )
    attempt = await sender(MemoryStore(), resolver=resolver).test("ann", endpoint(url="https://slow.example/"), "msg_1")

    assert (caught.value.code, caught.value.param) == ("url_unreachable", "mask")
    assert "the name was not looked up within 0.02 s" in caught.value.message
    assert attempt.error == "the name was not looked up within 0.02 s"


async def test_an_error_of_the_resolution_is_raised(names: Names) -> None:
    """As `getaddrinfo` raises it."""
    with pytest.raises(socket.gaierror):
        await NameResolver().resolve("nobody.example", 443, "ann")


def test_a_resolution_does_not_keep_a_process_from_exiting() -> None:
    """Threads of an executor would."""
    program = """
import asyncio, socket, threading
from orchestrator.egress.resolver import NameResolver, ResolutionTimeoutError
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
try:
    asyncio.run(NameResolver(timeout_s=0.01).resolve("slow.example", 443, "ann"))
except ResolutionTimeoutError:
    print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "ended\n", done.stderr
