"""Webhooks from real orchestrators to a real receiver that verifies with three libraries: errors, silence, kills, restarts."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest
import redis as redis_client
import standardwebhooks
from redis.asyncio import Redis

from editthinker import EditThinker
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from orchestrator.webhooks.schedule import RETRY_DELAYS_S
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

SCALE = 0.0005
LATE_S = 60.0
"""Timers are looked at twice a second; and these machines are busy. Far below the schedule without its scale."""
VERIFIER = openai.OpenAI(api_key="x").webhooks
OURS = EditThinker("http://127.0.0.1:9").webhooks
OPEN = {
    "EDITTHINKER_WEBHOOK_ALLOW_PRIVATE": "true",
    "EDITTHINKER_WEBHOOK_TIME_SCALE": str(SCALE),
    # A busy receiver answers within it: an attempt too many is legal, and would be counted here.
    "EDITTHINKER_WEBHOOK_TIMEOUT_S": "4",
    # A chore whose replica died in the moment of claiming it comes again after six of these.
    "EDITTHINKER_LEASE_S": "1",
}


@dataclass
class Got:
    """One request, verified."""

    at: float
    id: str
    event: dict[str, Any]
    body: bytes
    path: str


@dataclass
class Receiver:
    """The requests it received, and its responses: a status, or None for silence, by how often it saw this id."""

    url: str = ""
    secret: str = ""
    answer: Callable[[int], int | None] = lambda _: 204
    got: list[Got] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def of(self, session_id: str) -> list[Got]:
        return [got for got in self.got if got.event["data"]["id"] == session_id]

    def take(self, headers: dict[str, str], body: bytes, path: str) -> int | None:
        try:
            event = standardwebhooks.Webhook(self.secret).verify(body, headers)
            VERIFIER.unwrap(body, headers, secret=self.secret)
            assert OURS.unwrap(body, headers, self.secret).data.id == event["data"]["id"]
        except (standardwebhooks.WebhookVerificationError, openai.OpenAIError, ValueError) as exc:
            self.wrong.append(repr(exc))
            return 400
        name = {key.lower(): value for key, value in headers.items()}["webhook-id"]
        self.got.append(Got(time.time(), name, event, body, path))
        return self.answer(sum(got.id == name for got in self.got))


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(dict(self.headers.items()), body, self.path)
            if status is None:
                receiver.over.wait(30)
                return
            self.send_response(status)
            self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hooks"
    yield receiver
    receiver.over.set()
    server.shutdown()
    server.server_close()
    thread.join()
    assert receiver.wrong == []


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def client(process: Process, key: str = "") -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=process.url, timeout=20, trust_env=False, headers=headers)


def register(api: httpx.Client, receiver: Receiver, **fields: Any) -> str:
    """A webhook to that receiver; its id."""
    reply = api.post("/v1/webhooks", json={"url": receiver.url, **fields})
    assert reply.status_code == 201, reply.text
    receiver.secret = reply.json()["secret"]
    name: str = reply.json()["id"]
    return name


def deliveries(api: httpx.Client, session_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/v1/sessions/{session_id}/deliveries").json()["data"]
    return found


def test_an_event_arrives_through_errors_silence_a_kill_and_a_restart(
    start_orchestrator: Start, receiver: Receiver, script: Script
) -> None:
    """At least once, under one id, not before its time in the specification's schedule."""
    answers = [500, 302, None, 503]
    receiver.answer = lambda time_: answers[time_ - 1] if time_ <= len(answers) else 204
    first = start_orchestrator(**OPEN)
    with client(first) as api:
        hook = register(api, receiver, events=["session.finished"])
        ids = [create(api, max_turns=1, semantic_threshold=10).json()["id"] for _ in range(3)]
        until(lambda: all(len(receiver.of(name)) >= 3 for name in ids))
    # They are in the middle of their third attempts.
    first.kill()
    again = start_orchestrator(port=first.port, **OPEN)

    with client(again) as api:
        until(lambda: all(deliveries(api, name)[0]["state"] == "delivered" for name in ids), 90)
        for name in ids:
            [told] = deliveries(api, name)
            requests, attempts = receiver.of(name), told["attempts"]
            assert {got.id for got in requests} == {told["id"]} and len({got.body for got in requests}) == 1
            assert requests[0].event["data"] == {"id": name, "status": "succeeded", "finish_reason": "max_turns"}
            assert {got.path for got in requests} == {"/hooks"}
            assert (told["webhook"], told["type"], told["next_at"]) == (hook, "session.finished", None)
            # The third, unless it had timed out, died with its replica before it was written down; so it was made again.
            assert [attempt["status"] for attempt in attempts if not attempt["error"]] == [500, 302, 503, 204]
            assert [attempt["error"] for attempt in attempts if attempt["error"]] in ([], ["no answer within 4 s"])
            assert len(requests) == 5
            for wait, one, other in zip(RETRY_DELAYS_S, attempts, attempts[1:], strict=False):
                gap = other["at"] - one["at"] - one["duration_s"]
                assert wait * SCALE - 0.01 <= gap <= wait * SCALE * 1.1 + LATE_S
        metrics = api.get("/metrics").text
    assert 'editthinker_webhook_deliveries_total{outcome="delivered"} 3.0' in metrics


def test_another_replica_takes_over(start_orchestrator: Start, receiver: Receiver, script: Script) -> None:
    """It delivers what the dead replica had in flight; a review and an end are two events."""
    receiver.answer = lambda time_: None if time_ == 1 else 200
    first, second = start_orchestrator(**OPEN), start_orchestrator(**OPEN)
    with client(second) as api:
        register(api, receiver)
        session_id = create(api, review="before_finish", max_turns=1).json()["id"]
        until(lambda: receiver.of(session_id))
        first.kill()
        until(lambda: deliveries(api, session_id)[0]["state"] == "delivered")
        assert api.post(f"/v1/sessions/{session_id}/feedback", json={"action": "accept"}).status_code == 200
        until(lambda: [told["state"] for told in deliveries(api, session_id)] == ["delivered", "delivered"])
        told = deliveries(api, session_id)
    types = {got.id: (got.event["type"], got.event["data"]["status"]) for got in receiver.of(session_id)}

    assert [one["type"] for one in told] == ["session.awaiting_review", "session.finished"]
    assert types == {
        told[0]["id"]: ("session.awaiting_review", "awaiting_review"),
        told[1]["id"]: ("session.finished", "succeeded"),
    }


def test_gone_disables_until_a_test_succeeds(
    start_orchestrator: Start, receiver: Receiver, redis: Process, script: Script
) -> None:
    """410 stops every delivery; a deleted webhook gets nothing more either, nor does one that subscribes to other events."""
    receiver.answer = lambda _: 410
    process = start_orchestrator(**OPEN)
    with receiving() as other, client(process) as api:
        hook, second = register(api, receiver), register(api, other, events=["session.awaiting_review"])
        gone = create(api, wait=20, max_turns=1).json()["id"]
        until(lambda: api.get(f"/v1/webhooks/{hook}").json()["disabled"])
        assert [(told["state"], told["attempts"][0]["status"]) for told in deliveries(api, gone)] == [("failed", 410)]
        create(api, wait=20, max_turns=1)
        with redis_client.Redis(port=redis.port, db=1) as kept:
            # Nobody is told of it, but only once its chore is done while the webhook is disabled.
            until(lambda: not any(name.startswith(b"hook:") for name in kept.zrange(f"{KeySpace().prefix}timers", 0, -1)))

        failed = api.post(f"/v1/webhooks/{hook}/test").json()
        assert (failed["delivered"], failed["attempt"]["status"]) == (False, 410)
        receiver.answer = lambda _: 200
        assert api.post(f"/v1/webhooks/{hook}/test").json()["delivered"]
        assert receiver.got[-1].event["type"] == "webhook.test"
        assert not api.get(f"/v1/webhooks/{hook}").json()["disabled"]
        told = create(api, wait=20, max_turns=1).json()["id"]
        until(lambda: receiver.of(told))
        assert [got.event["data"]["id"] for got in receiver.got] == [gone, hook, hook, told]

        # What waits for its next attempt when its webhook is deleted is dropped; with its session it is forgotten.
        receiver.answer = lambda _: 500
        dropped, forgotten = (create(api, wait=20, max_turns=1).json()["id"] for _ in range(2))
        until(lambda: receiver.of(dropped) and receiver.of(forgotten))
        assert api.delete(f"/v1/sessions/{forgotten}").status_code == 204
        assert api.delete(f"/v1/webhooks/{hook}").status_code == 204
        until(lambda: deliveries(api, dropped)[0]["state"] == "dropped")
        assert deliveries(api, dropped)[0]["note"] == "the webhook was deleted"
        assert api.get(f"/v1/sessions/{forgotten}/deliveries").status_code == 404
        assert [one["id"] for one in api.get("/v1/webhooks").json()["data"]] == [second]
        assert other.got == []
        with redis_client.Redis(port=redis.port, db=1) as kept:
            until(
                lambda: not [name for name in kept.zrange(KeySpace().timers, 0, -1) if name.startswith((b"hook:", b"deliver:"))]
            )
            assert not kept.exists(KeySpace().deliveries(forgotten))
            assert 0 < kept.ttl(KeySpace().deliveries(dropped)) <= 4 * 86_400


def test_a_secret_is_rotated_without_a_delivery_lost(start_orchestrator: Start, receiver: Receiver, script: Script) -> None:
    """Receivers with the old and with the new secret accept deliveries; the new secret is shown once."""
    process = start_orchestrator(**OPEN)
    with client(process) as api:
        hook = register(api, receiver, events=["session.finished"])
        began, old = time.time(), receiver.secret
        reply = api.post(f"/v1/webhooks/{hook}/rotate_secret")
        assert reply.status_code == 200, reply.text
        rotated = reply.json()
        for secret in (old, rotated["secret"]):
            receiver.secret = secret
            told = create(api, wait=20, max_turns=1).json()["id"]
            until(lambda told=told: receiver.of(told))  # type: ignore[misc]
            assert api.post(f"/v1/webhooks/{hook}/test").json()["delivered"]
        shown = api.get(f"/v1/webhooks/{hook}").json()
        again = [api.post(f"/v1/webhooks/{hook}/rotate_secret") for _ in range(3)]

    assert rotated == {**shown, "secret": rotated["secret"], "previous_secret_until": rotated["previous_secret_until"]}
    assert rotated["secret"] != old and not {"secret", "retired", "previous_secret_until"} & shown.keys()
    # The server reads the clock of Redis, which it knows to a round trip.
    assert -1 < rotated["previous_secret_until"] - began - 86_400 < LATE_S
    assert [reply.status_code for reply in again] == [200, 200, 429]
    assert again[-1].json()["error"]["code"] == "rate_limited"
    assert 86_400 - 60 < int(again[-1].headers["retry-after"]) <= 86_400


def test_a_tenants_webhooks_are_its_own(start_orchestrator: Start, receiver: Receiver, redis: Process, script: Script) -> None:
    """For other tenants they do not exist, and they get no events of other tenants' sessions."""

    async def keys() -> list[str]:
        async with Redis(port=redis.port, db=1) as store:
            made = ApiKeyStore(store, KeySpace())
            grants = (("ann", "edit"), ("bob", "edit"), ("ann", "read"))
            return [(await made.create(tenant, ["read", scope]))[0] for tenant, scope in grants]

    process = start_orchestrator(**OPEN, EDITTHINKER_KEYS="required")
    ann_key, bob_key, reader_key = asyncio.run(keys())
    with client(process, ann_key) as ann, client(process, bob_key) as bob, client(process, reader_key) as reader:
        hook = register(ann, receiver)
        assert "secret" not in ann.get(f"/v1/webhooks/{hook}").json()
        for reply in (
            bob.get(f"/v1/webhooks/{hook}"),
            bob.delete(f"/v1/webhooks/{hook}"),
            bob.post(f"/v1/webhooks/{hook}/test"),
            bob.post(f"/v1/webhooks/{hook}/rotate_secret"),
        ):
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "webhook_not_found")
        assert bob.get("/v1/webhooks").json()["data"] == []
        assert reader.get(f"/v1/webhooks/{hook}").status_code == 200
        assert {
            reader.post("/v1/webhooks", json={"url": receiver.url}).status_code,
            reader.delete(f"/v1/webhooks/{hook}").status_code,
            reader.post(f"/v1/webhooks/{hook}/rotate_secret").status_code,
        } == {403}

        his = create(bob, wait=20, max_turns=1).json()["id"]
        hers = create(ann, wait=20, max_turns=1).json()["id"]
        until(lambda: receiver.of(hers))
        assert ann.get(f"/v1/sessions/{his}/deliveries").status_code == 404
        assert deliveries(bob, his) == []
    assert {got.event["data"]["id"] for got in receiver.got} == {hers}


REFUSED = [
    *("http://example.com/", "ftp://example.com/", "https://user:secret@example.com/", "https://", "example.com", "x" * 2001),
    *("https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3/", "https://169.254.169.254/latest/meta-data/"),
    *("https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "http://localhost/", "http://127.0.0.1:6379/"),
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_of_an_internal_address_is_refused(api: httpx.Client, url: str) -> None:
    """Before it is stored."""
    reply = api.post("/v1/webhooks", json={"url": url})

    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == "url"


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_name_of_an_internal_address_is_not_called(api: httpx.Client, receiver: Receiver, host: str) -> None:
    """The address counts that it resolves to at the time of the call."""
    hook = api.post("/v1/webhooks", json={"url": receiver.url.replace("http://127.0.0.1", f"https://{host}")})
    assert hook.status_code in {201, 400}
    if hook.status_code == 201:
        result = api.post(f"/v1/webhooks/{hook.json()['id']}/test").json()
        assert result["attempt"]["error"] == "the URL leads to an address that is not public"
    assert receiver.got == []


async def test_webhooks_that_are_made_at_the_same_time_are_counted(api: httpx.Client) -> None:
    """Each of many requests finds none before it: more than 16 would be stored, and one host called for each of them."""
    async with httpx.AsyncClient(base_url=api.base_url, headers=api.headers, timeout=30) as client:
        urls = [f"https://example{number % 8}.com/{number}" for number in range(80)]
        made = await asyncio.gather(*(client.post("/v1/webhooks", json={"url": url}) for url in urls))

    assert Counter(reply.status_code for reply in made) == {201: 16, 400: 64}
    kept = api.get("/v1/webhooks").json()["data"]
    assert len(kept) == 16
    assert max(Counter(webhook["url"].rpartition("/")[0] for webhook in kept).values()) <= 4


def test_webhooks_of_a_tenant_are_bounded(api: httpx.Client) -> None:
    """To sixteen, and to four of one host; each gets the events that it subscribes to."""
    hosts = [f"example{number // 4}.com" for number in range(16)]
    hosts[4:4] = hosts[:1]
    events = ["session.finished"] * 2
    made = [api.post("/v1/webhooks", json={"url": f"https://{host}/", "events": events}) for host in [*hosts, "example.org"]]

    assert [reply.status_code for reply in made] == [201] * 4 + [400] + [201] * 12 + [400]
    assert made[0].json()["events"] == ["session.finished"]
    assert len(api.get("/v1/webhooks").json()["data"]) == 16


def test_a_request_names_its_own_webhook(start_orchestrator: Start, receiver: Receiver, script: Script) -> None:
    """It gets this session's events alone, signed with the request's secret, with the session's metadata."""
    receiver.secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    orchestrator = start_orchestrator(**OPEN)
    own = {"webhook": receiver.url, "webhook_secret": receiver.secret, "metadata[order]": "17", "max_turns": "1"}
    with client(orchestrator) as api:
        script.hold_edit = 1
        reply = create(api, **own)
        until(lambda: len(script.edits) == 1)  # the one that is held, not that of the other session
        other = create(api, max_turns=1, wait=20).json()["id"]
        script.release.set()
        session_id = reply.json()["id"]
        until(lambda: receiver.of(session_id))
        [got] = receiver.of(session_id)
        until(lambda: api.get(f"/v1/sessions/{session_id}/deliveries").json()["data"][0]["state"] == "delivered")
        [delivery] = api.get(f"/v1/sessions/{session_id}/deliveries").json()["data"]
        events = api.get(f"/v1/sessions/{session_id}/events").text

    assert got.event["data"] == {
        "id": session_id,
        "status": "succeeded",
        "finish_reason": "max_turns",
        "metadata": {"order": "17"},
    }
    assert (delivery["webhook"], delivery["id"]) == ("request", got.id)
    assert receiver.of(other) == []
    assert receiver.secret not in events + reply.text
    assert receiver.url not in events


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"webhook": "https://example.com/h"}, "missing_parameter", "webhook_secret"),
        ({"webhook_secret": "whsec_" + "A" * 44}, "missing_parameter", "webhook"),
        ({"webhook": "https://example.com/h", "webhook_secret": "whsec_AAAA"}, "invalid_value", "webhook_secret"),
        ({"webhook": "https://example.com/h", "webhook_secret": "whsec_" + "?" * 44}, "invalid_value", "webhook_secret"),
        ({"webhook": "https://example.com/h", "webhook_secret": "whsec_" + "é" * 44}, "invalid_value", "webhook_secret"),
        ({"webhook": "https://10.0.0.1/h", "webhook_secret": "whsec_" + "A" * 44}, "url_forbidden", "webhook"),
        ({"webhook": "ftp://example.com/h", "webhook_secret": "whsec_" + "A" * 44}, "invalid_url", "webhook"),
    ],
)
def test_a_wrong_webhook_of_a_request_is_refused(api: httpx.Client, fields: dict[str, str], code: str, param: str) -> None:
    """Before anything is stored."""
    error = create(api, **fields).json()["error"]

    assert (error["code"], error["param"]) == (code, param)
    assert api.get("/v1/sessions").json()["data"] == []
