"""The editor pool: the real HAProxy with the real configuration, in front of doubles and of real workers."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.haproxy.render import SOURCE, render
from services.errors import TABLE
from tests.doubles.haproxy import HAProxy, NoHAProxyError, haproxy, haproxy_binary
from tests.doubles.pool import Worker, name_server, workers

EDITS = "/v1/images/edits"
Reply = tuple[int, dict[str, Any]]


@pytest.fixture(autouse=True, scope="module")
def binary() -> str:
    """The real one; where it cannot be had, these tests say what to install."""
    try:
        return haproxy_binary()
    except NoHAProxyError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def pair() -> Iterator[list[Worker]]:
    with workers(2) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=20, trust_env=False, limits=limits) as made:
        yield made


def addresses(made: list[Worker]) -> list[str]:
    return [worker.address for worker in made]


async def until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, what
        await asyncio.sleep(0.01)


def gauge(proxy: HAProxy, name: str, backend: str = "editors") -> float:
    text = httpx.get(proxy.metrics_url, trust_env=False).text
    found = re.search(rf'^{name}{{proxy="{backend}"}} (\S+)$', text, re.MULTILINE)
    assert found, name
    return float(found[1])


async def queued(proxy: HAProxy, count: int) -> None:
    await until(lambda: gauge(proxy, "haproxy_backend_current_queue") == count, f"{count} do not wait in the queue")


async def serving(proxy: HAProxy, count: int) -> None:
    """Wait until the proxy counts so many workers in both backends."""
    for backend in ("editors", "control"):
        await until(
            lambda backend=backend: gauge(proxy, "haproxy_backend_active_servers", backend) == count,  # type: ignore[misc]
            f"there are not {count} workers in {backend}",
        )


async def edit(client: httpx.AsyncClient, proxy: HAProxy, key: str, **headers: str) -> Reply:
    reply = await client.post(proxy.url + EDITS, content=b"picture", headers={"idempotency-key": key, **headers})
    return reply.status_code, reply.json()


def is_ours(status: int, body: dict[str, Any]) -> bool:
    """An error of the table, under its own status and type."""
    error = body["error"]
    row = TABLE[error["code"]]
    return row.status == status and row.blame == error["type"] and error["param"] is None


def test_the_configuration_has_no_warnings(binary: str, tmp_path: Path) -> None:
    """The configuration is valid without a warning, for a name and for a list, with nothing set but the name."""
    listed = tmp_path / "static.cfg"
    listed.write_text(render(["127.0.0.1:8100", "[::1]:8100"]))
    for config, env in ((SOURCE, {"EDITORS_DNS": "editors.internal"}), (listed, {})):
        command = [binary, "-c", "-dW", "-V", "-f", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env}, check=False)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr


async def test_every_worker_has_as_much_as_it_may(pair: list[Worker], client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Requests fill every worker to maxconn and no further; the rest wait in one queue and are all answered."""
    for worker in pair:
        worker.hold = True
    with haproxy(tmp_path, addresses(pair), maxconn=3) as proxy:
        await serving(proxy, 2)
        edits = [asyncio.create_task(edit(client, proxy, f"k{number}")) for number in range(20)]
        await queued(proxy, 14)
        await until(lambda: [worker.active for worker in pair] == [3, 3], "not every worker has as much as it may")
        for worker in pair:
            worker.hold = False
        assert {status for status, _ in await asyncio.gather(*edits)} == {200}
    assert [worker.peak for worker in pair] == [3, 3]


async def test_later_turns_go_first(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A queued request with a more urgent Priority overtakes those that said nothing; a less urgent one waits for all."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address], maxconn=1) as proxy:
        worker.hold = True
        await serving(proxy, 1)
        edits = []
        asked = {
            "running": {},
            "last": {"priority": "i, u=7"},
            "first": {},
            "second": {"priority": "u=x"},
            "later": {"priority": "u=2"},
        }
        for place, (key, headers) in enumerate(asked.items()):
            edits.append(asyncio.create_task(edit(client, proxy, key, **headers)))
            await (queued(proxy, place) if place else until(lambda: worker.active == 1, "no edit runs"))
        worker.hold = False
        await asyncio.gather(*edits)
        assert worker.keys == ["running", "later", "first", "second", "last"]


async def test_who_leaves_the_queue_costs_no_edit(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A caller who leaves the queue reaches no worker; one with a body that HAProxy does not read ahead is dropped there."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address], maxconn=1) as proxy:
        worker.hold = True
        await serving(proxy, 1)
        running = asyncio.create_task(edit(client, proxy, "running"))
        await until(lambda: worker.active == 1, "no edit runs")
        large = client.post(proxy.url + EDITS, content=bytes(3_000_000), headers={"idempotency-key": "large"})
        waiting = [asyncio.create_task(edit(client, proxy, "gone")), asyncio.create_task(large)]
        await queued(proxy, 2)
        waiting[0].cancel()
        waiting[1].cancel()
        await queued(proxy, 1)
        running.cancel()
        await until(lambda: sorted(worker.left) == ["large", "running"], "the worker does not see that its callers left")
        worker.hold = False
        await edit(client, proxy, "next")
        assert worker.keys == ["running", "large", "next"]


async def test_full_and_empty_pools_say_so(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Waiting too long is a 429 `overloaded`, no ready worker a 503 `not_ready`: OpenAI's shape, with Retry-After."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address], maxconn=1, queue_timeout="200ms") as proxy:
        worker.hold = True
        await serving(proxy, 1)
        running = asyncio.create_task(edit(client, proxy, "running"))
        await until(lambda: worker.active == 1, "no edit runs")
        full = await client.post(proxy.url + EDITS, content=b"x")
        worker.ready = False
        await serving(proxy, 0)
        empty = await client.post(proxy.url + EDITS, content=b"x")
        assert (await client.get(proxy.url + "/readyz")).status_code == 503
        assert (await client.get(proxy.url + "/healthz")).status_code == 200
        worker.hold = False
        assert (await running)[0] == 200  # an edit that runs is not cut when its worker stops being ready
        worker.ready = True
        await serving(proxy, 1)
        assert (await edit(client, proxy, "again"))[0] == 200
    for reply, status, code in ((full, 429, "overloaded"), (empty, 503, "not_ready")):
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
        assert is_ours(status, reply.json())
        assert float(reply.headers["retry-after"]) > 0
    assert worker.keys == ["running", "again"]


async def test_a_repeat_goes_where_the_key_was(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """First requests reach every worker; repeats and the DELETE of a key go to its worker, or elsewhere once that is down."""
    with workers(3) as made, haproxy(tmp_path, addresses(made), maxconn=2) as proxy:
        await serving(proxy, 3)
        keys = [f"ses_1/edit {number}%" for number in range(30)]
        first = dict(zip(keys, await asyncio.gather(*(edit(client, proxy, key) for key in keys)), strict=True))
        home = {key: body["worker"] for key, (_, body) in first.items()}
        assert set(home.values()) == {worker.address for worker in made}
        repeats = await asyncio.gather(*(edit(client, proxy, key) for key in reversed(keys)))
        assert [body["worker"] for _, body in repeats] == [home[key] for key in reversed(keys)]
        for key in keys[:6]:
            stopped = await client.delete(f"{proxy.url}/v1/edits/{key.replace('%', '%25')}")
            assert stopped.json() == {"worker": home[key], "key": key}
        made[0].ready = False
        await serving(proxy, 2)
        orphan = next(key for key in keys if home[key] == made[0].address)
        status, body = await edit(client, proxy, orphan)
        assert (status, body["worker"] != made[0].address) == (200, True)


async def test_a_failed_key_is_free_to_go(pair: list[Worker], client: httpx.AsyncClient, tmp_path: Path) -> None:
    """The repeat of an edit that its worker failed goes where there is room, so that one sick worker does not eat every try."""
    with haproxy(tmp_path, addresses(pair)) as proxy:
        await serving(proxy, 2)
        for worker in pair:
            worker.fail = 500
        assert (await edit(client, proxy, "key"))[0] == 500
        sick, well = sorted(pair, key=lambda worker: -len(worker.keys))
        well.fail, sick.fail = None, None
        # Least-conn prefers the other worker only while the sick one has more to do.
        sick.hold = True
        busy = [asyncio.create_task(edit(client, proxy, f"busy{place}")) for place in range(3)]
        await until(lambda: 0 < sick.active == sum(not task.done() for task in busy), "the sick worker has nothing to do")
        assert (await edit(client, proxy, "key"))[1]["worker"] == well.address
        assert (await edit(client, proxy, "key"))[1]["worker"] == well.address
        sick.hold = False
        await asyncio.gather(*busy)


async def test_control_does_not_wait_behind_edits(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Models and DELETEs are answered while every worker is busy and the queue is full."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address], maxconn=1) as proxy:
        worker.hold = True
        await serving(proxy, 1)
        edits = [asyncio.create_task(edit(client, proxy, f"k{number}")) for number in range(4)]
        await queued(proxy, 3)
        assert (await client.get(proxy.url + "/v1/models")).json() == {"worker": worker.address}
        assert (await client.delete(proxy.url + "/v1/edits/k0")).json()["key"] == "k0"
        worker.hold = False
        await asyncio.gather(*edits)


async def test_names_scale_the_pool(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Workers that DNS begins to name get requests; one that it no longer names finishes what it has and gets no more."""
    hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    with workers(3, hosts) as made, name_server(hosts[:1]) as names:
        port = made[0].address.partition(":")[2]
        env = {
            "EDITORS_DNS": "editors.test",
            "EDITORS_PORT": port,
            "EDITORS_RESOLVER": names.address,
            "EDITORS_DNS_EVERY": "100ms",
        }
        with haproxy(tmp_path, None, env=env) as proxy:
            await serving(proxy, 1)
            names.hosts = list(hosts)
            await serving(proxy, 3)
            for worker in made:
                worker.hold = True
            edits = [asyncio.create_task(edit(client, proxy, f"k{number}")) for number in range(6)]
            await until(lambda: [worker.active for worker in made] == [2, 2, 2], "not every worker has two edits")
            names.hosts = hosts[:1]
            await serving(proxy, 1)
            for worker in made:
                worker.hold = False
            assert {status for status, _ in await asyncio.gather(*edits)} == {200}
            replies = await asyncio.gather(*(edit(client, proxy, f"after{number}") for number in range(6)))
            assert {body["worker"] for _, body in replies} == {made[0].address}


async def test_large_bodies_wait_and_pass(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """30 MB pass; a caller who waits in the queue or for its answer may be silent for longer than a stalled one."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address], maxconn=1, env={"EDITORS_CLIENT_TIMEOUT": "3s"}) as proxy:
        worker.seconds = 3.5
        await serving(proxy, 1)
        posts = (client.post(proxy.url + EDITS, content=bytes(30_000_000)) for _ in range(2))
        replies = await asyncio.gather(*posts)
        assert [(reply.status_code, reply.json()["received"]) for reply in replies] == [(200, 30_000_000)] * 2


async def test_events_arrive_as_they_are_sent(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """An event of a stream arrives while the reply goes on."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address]) as proxy:
        worker.hold = True
        await serving(proxy, 1)
        async with client.stream("POST", f"{proxy.url}{EDITS}?stream=1", content=b"x") as reply:
            pieces = reply.aiter_text()
            assert "progress" in await anext(pieces)
            worker.hold = False
            assert "completed" in "".join([piece async for piece in pieces])


async def test_headers_pass_and_odd_ones_do_no_harm(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Trace and request ids reach the worker, an id is made where none is given, and no Priority breaks anything."""
    with workers(1) as [worker], haproxy(tmp_path, [worker.address]) as proxy:
        await serving(proxy, 1)
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        _, given = await edit(client, proxy, "given", traceparent=trace, **{"x-request-id": "mine"})
        assert (given["headers"]["traceparent"], given["headers"]["x-request-id"]) == (trace, "mine")
        _, made = await edit(client, proxy, "made")
        assert re.fullmatch(r"[0-9a-f-]{36}", made["headers"]["x-request-id"])
        odd = ["u=99999999999", "u=-9", "u", "", "u=3" * 3000, ',;=\\"', "u=2, u=9", "\xff\xfe", "A" * 10_000]
        for priority in odd:
            reply = await client.post(proxy.url + EDITS, headers={b"priority": priority.encode("latin-1")})
            assert reply.status_code == 200
        await edit(client, proxy, 'quote " \\ key', priority="u=1")
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines() if line.startswith("{")]
    edits = [line for line in lines if line["method"] == "POST"]
    assert [line["priority"] for line in edits[-len(odd) - 1 :]] == [3] * 6 + [2, 3, 3, 1]
    assert (edits[0]["request_id"], edits[0]["key"], edits[-1]["key"]) == ("mine", "given", 'quote " \\ key')
    assert (edits[0]["traceparent"], edits[1]["traceparent"]) == (trace, "-")
    assert edits[0]["queue_ms"] >= 0


TWO_ENDS = {
    "two lengths": "1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "a signed length": "1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd",
    "an unknown coding": "1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding in 1.0": "1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": "1.1\r\nhost: a\r\ncontent-length : 4\r\n\r\nabcd",
    "a length and a coding": "1.1\r\nhost: a\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
}


async def test_a_request_has_one_end(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A request whose end two parties could see in two places is refused, or passed on with one end and nothing after it."""
    hidden = "DELETE /v1/edits/hidden HTTP/1.1\r\nhost: a\r\n\r\n"
    with workers(1) as [worker], haproxy(tmp_path, [worker.address]) as proxy:
        await serving(proxy, 1)
        answers = {}
        for name, head in TWO_ENDS.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(f"POST {EDITS} HTTP/{head}{hidden}".encode())
            answers[name] = (await asyncio.wait_for(reader.read(), 10)).decode()
            writer.close()
            await writer.wait_closed()
        assert not [name for name, answer in answers.items() if "hidden" in answer]
        passed = answers.pop("a length and a coding")
        statuses = {name: answer.split(" ")[1] for name, answer in answers.items()}
        assert statuses == dict.fromkeys(answers, "400") | {"an unknown coding": statuses["an unknown coding"]}
        sent = json.loads(passed.partition("\r\n\r\n")[2])
        assert "content-length" not in sent["headers"]
        assert (sent["received"], len(worker.keys)) == (0, 1)
        underscore = await client.post(proxy.url + EDITS, headers={"content_length": "4"})
        assert (underscore.status_code, underscore.json()["error"]["code"]) == (403, "invalid_value")
