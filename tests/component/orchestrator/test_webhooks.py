"""Webhooks: the schedule, the signature, and the addresses that may be called."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpcore
import openai
import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.loop import events as ev
from orchestrator.ports.stores import Recorded
from orchestrator.webhooks import model, schedule
from orchestrator.webhooks.sender import SenderOptions, WebhookSender
from tests.doubles.clock import SystemClock
from tests.doubles.waiting import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
CREATED = ev.SessionCreated(
    at=1.0, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=60.0), tenant="ann"
)
HOUR = 3600.0


def endpoint(name: str = "whk_1", url: str = "https://example.com/hooks", **fields: Any) -> model.Endpoint:
    return model.Endpoint(
        **{"id": name, "url": url, "secret": SECRET, "events": tuple(model.TOPICS.values()), "created_at": 0, **fields}
    )


def delivery(name: str = "msg_1", webhook: str = "whk_1", **fields: Any) -> model.Delivery:
    given = {
        "id": name,
        "tenant": "ann",
        "session_id": "ses_1",
        "seq": 2,
        "webhook": webhook,
        "type": "session.finished",
        "body": "{}",
    }
    return model.Delivery(**{**given, "next_at": 0.0, **fields})


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_the_schedule_is_the_specifications() -> None:
    """The times since the start are those of its table; there is no eleventh attempt."""
    waits = [schedule.retry_delay_s(attempts, scale=1, jitter=0) for attempts in range(1, 10)]
    since = [sum(wait or 0 for wait in waits[:number]) for number in range(10)]

    five = 5.0
    assert since[:5] == [0, five, five + 300, five + 2100, five + 2100 + 2 * HOUR]
    assert since[9] == 75 * HOUR + 35 * 60 + 5
    assert schedule.retry_delay_s(10, scale=1, jitter=0) is None


@given(
    attempts=st.integers(1, 9),
    scale=st.floats(0.001, 10),
    jitter=st.floats(0, 1),
    asked=st.none() | st.floats(0, 10**7),
)
def test_a_wait_is_never_shorter_than_scheduled_or_asked_for(
    attempts: int, scale: float, jitter: float, asked: float | None
) -> None:
    """It is longer by a tenth at most, except for a Retry-After, which counts up to a day."""
    wait = schedule.retry_delay_s(attempts, scale=scale, jitter=jitter, retry_after_s=asked)
    scheduled = schedule.RETRY_DELAYS_S[attempts - 1] * scale

    assert wait is not None
    assert wait >= scheduled and wait >= min(asked or 0, 86_400)
    assert wait <= max(scheduled * 1.1 + 1e-6, min(asked or 0, 86_400))


@given(statuses=st.lists(st.none() | st.integers(100, 599), min_size=1, max_size=12))
def test_attempts_end_with_success_gone_or_the_last(statuses: list[int | None]) -> None:
    """2xx delivers, 410 disables, all other responses are retried, ten attempts in all."""
    now, one, outcomes = 0.0, delivery(), []
    for status in statuses:
        if one.state != "pending":
            break
        one, outcome = schedule.after_attempt(one, model.Attempt(at=now, status=status), scale=1, jitter=0.5)
        outcomes.append(outcome)
        assert (one.next_at is None) == (one.state != "pending")
        assert one.next_at is None or one.next_at > now
        now = one.next_at or now
    last = statuses[len(outcomes) - 1]
    ended = (
        "delivered" if last in range(200, 300) else "disabled" if last == 410 else "failed" if len(outcomes) == 10 else "retried"
    )

    assert outcomes[-1] == ended and set(outcomes[:-1]) <= {"retried"}
    assert [attempt.status for attempt in one.attempts] == statuses[: len(outcomes)]


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (ev.Finished(at=2.5, reason="cancelled", best=None, totals=ev.Totals()), ("session.finished", "cancelled", "cancelled")),
        (ev.Finished(at=2.5, reason="failed", best=None, totals=ev.Totals()), ("session.finished", "failed", "failed")),
        (ev.ReviewRequested(at=2.5, turn=1, best=None), ("session.awaiting_review", "awaiting_review", None)),
    ],
)
def test_events_are_thin(event: ev.Event, told: tuple[str, str, str | None]) -> None:
    """The type of event, the session and the time, under an id that is the same on every replica."""
    log = [Recorded(1, CREATED), Recorded(2, event), Recorded(3, ev.CancelRequested(at=3.0))]
    wanted, unwanted = endpoint(), [endpoint("whk_2", events=("other",)), endpoint("whk_3", disabled_at=1.0)]
    [one] = schedule.deliveries_of("ses_1", log, 2, [wanted, *unwanted], 9.0)
    topic, status, reason = told

    assert json.loads(one.body) == {
        "id": schedule.event_id("ses_1", 2),
        "object": "event",
        "created_at": 2,
        "type": topic,
        "timestamp": "1970-01-01T00:00:02.500Z",
        "data": {"id": "ses_1", "status": status, "finish_reason": reason},
    }
    assert (one.webhook, one.tenant, one.state) == ("whk_1", "ann", "pending")
    assert schedule.deliveries_of("ses_1", log, 2, [wanted], 10.0)[0].id == one.id
    assert schedule.delivery_id("ses_1", 2, "whk_2") != one.id != schedule.delivery_id("ses_1", 3, "whk_1")


@pytest.mark.parametrize("seq", [1, 3, 4])
def test_other_events_are_not_delivered(seq: int) -> None:
    """Nor events that are not in the log."""
    log = [
        Recorded(1, CREATED),
        Recorded(2, ev.ReviewRequested(at=2.0, turn=1, best=None)),
        Recorded(3, ev.CancelRequested(at=3.0)),
    ]

    assert schedule.deliveries_of("ses_1", log, seq, [endpoint()], 9.0) == []


# --- a store in memory, and receivers --------------------------------------------------------------------------------


@dataclass
class MemoryStore:
    """`Deliveries` in memory, with the timers that were set."""

    known_endpoints: dict[str, model.Endpoint] = field(default_factory=dict)
    known_deliveries: dict[str, model.Delivery] = field(default_factory=dict)
    timers: dict[str, float] = field(default_factory=dict)

    async def own_endpoint(self, session_id: str) -> model.Endpoint | None:
        return None

    async def endpoints(self, tenant: str) -> list[model.Endpoint]:
        return list(self.known_endpoints.values())

    async def endpoint(self, tenant: str, endpoint_id: str) -> model.Endpoint | None:
        return self.known_endpoints.get(endpoint_id)

    async def enable(self, tenant: str, endpoint_id: str, *, disabled_at: float | None) -> None:
        self.known_endpoints[endpoint_id] = self.known_endpoints[endpoint_id].model_copy(update={"disabled_at": disabled_at})

    async def schedule(self, session_id: str, deliveries: Sequence[model.Delivery]) -> None:
        self.known_deliveries |= {one.id: one for one in deliveries}

    async def find(self, session_id: str, delivery_id: str) -> tuple[model.Delivery, bytes] | None:
        one = self.known_deliveries.get(delivery_id)
        return None if one is None else (one, one.model_dump_json().encode())

    async def replace(self, delivery: model.Delivery, stored: bytes) -> bool:
        known = self.known_deliveries.get(delivery.id)
        if known is None or known.model_dump_json().encode() != stored:
            return False
        self.known_deliveries[delivery.id] = delivery
        self.timers[delivery.id] = delivery.next_at or 0.0
        return True

    async def postpone(self, delivery: model.Delivery, at: float) -> None:
        self.timers[delivery.id] = at


class Outcomes:
    """Records the outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def webhook_delivered(self, outcome: model.Outcome) -> None:
        self.outcomes.append(outcome)


def sender(store: MemoryStore, counted: Outcomes | None = None, **sending: Any) -> WebhookSender:
    return WebhookSender(store, None, SystemClock(), SenderOptions(**{"timeout_s": 60, **sending}), counted or Outcomes())  # type: ignore[arg-type]  # plans nothing here


@asynccontextmanager
async def receiver(answer: Callable[[bytes], Awaitable[bytes]]) -> AsyncGenerator[str]:
    """A receiver on this machine: from the request's bytes to the answer's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        writer.write(await answer(head + await reader.readexactly(length)))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks"


def reply(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", "content-length: 0", *headers, "", ""]).encode()


async def sent(to: model.Endpoint) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a test that was delivered."""
    got: list[bytes] = []

    async def answer(request: bytes) -> bytes:
        got.append(request)
        return reply(204)

    async with receiver(answer) as url:
        attempt = await sender(MemoryStore(), allow_private=True).test("ann", to.model_copy(update={"url": url}), "msg_7")
    head, _, text = got[0].partition(b"\r\n\r\n")
    assert attempt.delivered
    return text, dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])


async def test_both_libraries_verify_what_is_sent() -> None:
    """`openai`'s own verifier and the specification's reference library; neither takes it when a byte is changed."""
    text, headers = await sent(endpoint())
    client = openai.OpenAI(api_key="x", webhook_secret=SECRET)
    assert headers["webhook-id"] == "msg_7"
    client.webhooks.verify_signature(text, headers)
    assert standardwebhooks.Webhook(SECRET).verify(text, headers)["type"] == "webhook.test"
    event = client.webhooks.unwrap(text, headers)
    assert (event.id, event.object, event.type) == ("evt_7", "event", "webhook.test")
    assert event.created_at and event.data.id == "whk_1"  # type: ignore[union-attr]  # not all of OpenAI's have one
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(text + b" ", headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(text + b" ", headers)


async def test_a_rotated_secret_signs_for_another_day() -> None:
    """Both verifiers accept the old and the new one; afterwards the new one alone."""
    now = SystemClock().now()
    second, third = SECRET.replace("MfKQ", "TWO2"), SECRET.replace("MfKQ", "THR3")
    just = endpoint().rotated(second, now - 86_000).rotated(third, now)
    later = just.model_copy(update={"retired": (just.retired[0], model.Retired(secret=SECRET, until=now - 1))})
    secrets, signers = (third, second, SECRET), (set[str](), set[str]())
    for made, verified in zip((just, later), signers, strict=True):
        text, headers = await sent(made)
        for secret in secrets:
            with contextlib.suppress(openai.InvalidWebhookSignatureError):
                openai.OpenAI(api_key="x", webhook_secret=secret).webhooks.verify_signature(text, headers)
                standardwebhooks.Webhook(secret).verify(text, headers)
                verified.add(secret)
        assert [part[:3] for part in headers["webhook-signature"].split(" ")] == ["v1,"] * len(verified)

    assert signers == ({third, second, SECRET}, {third, second})
    assert [old.secret for old in later.rotated("x", now).retired] == [third, second]


@pytest.mark.parametrize(
    ("answer", "status", "wait", "error"),
    [
        (reply(302, "location: http://127.0.0.1/"), 302, None, None),
        (reply(503, "retry-after: 7"), 503, 7.0, None),
        (reply(429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"), 429, 0.0, None),
        (reply(500, "retry-after: soon"), 500, None, None),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, 200, None, None),
        (b"SSH-2.0\r\n", None, None, "no connection, or no answer in HTTP"),
        (b"", None, None, "no connection, or no answer in HTTP"),
    ],
)
async def test_responses_of_a_receiver(answer: bytes, status: int | None, wait: float | None, error: str | None) -> None:
    """The head of the response counts; redirects are not followed, and bodies are not read."""
    asked = 0

    async def answers(_: bytes) -> bytes:
        nonlocal asked
        asked += 1
        return answer

    async with receiver(answers) as url:
        attempt = await sender(MemoryStore(), allow_private=True).test("ann", endpoint(url=url), "msg_7")

    assert (attempt.status, attempt.retry_after_s, attempt.error) == (status, wait, error)
    assert asked == 1


async def test_attempts_in_flight_are_left_to_another_replica_at_once() -> None:
    """A replica that stops resets its timers to now, and records no attempt."""

    async def never(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    store = MemoryStore()
    async with receiver(never) as url:
        store.known_endpoints, store.known_deliveries = {"whk_1": endpoint(url=url)}, {"msg_1": delivery()}
        webhooks = sender(store, allow_private=True)
        await webhooks.chore("deliver:ses_1/msg_1")
        assert store.timers["msg_1"] > SystemClock().now() + 5
        await webhooks.stop()

    assert store.timers["msg_1"] <= SystemClock().now()
    assert store.known_deliveries["msg_1"].attempts == ()


async def test_two_replicas_that_made_an_attempt_both_record_it() -> None:
    """Unless the other one delivered it."""
    store, counted = MemoryStore(), Outcomes()
    here: list[Callable[[], Awaitable[None]]] = []

    async def answer(_: bytes) -> bytes:
        await here.pop()()
        return reply(500)

    async with receiver(answer) as url:
        store.known_endpoints, store.known_deliveries = {"whk_1": endpoint(url=url)}, {"msg_1": delivery()}
        other, _ = schedule.after_attempt(store.known_deliveries["msg_1"], model.Attempt(at=1.0, status=502), scale=1, jitter=0)

        async def failed() -> None:
            store.known_deliveries["msg_1"] = other

        async def delivered() -> None:
            done, _ = schedule.after_attempt(other, model.Attempt(at=2.0, status=200), scale=1, jitter=0)
            store.known_deliveries["msg_1"] = done

        here += [delivered, failed]
        webhooks = sender(store, counted, allow_private=True)
        await webhooks.chore("deliver:ses_1/msg_1")
        await until(lambda: not webhooks._tasks)
        both = store.known_deliveries["msg_1"]
        store.known_deliveries["msg_1"] = other.model_copy(update={"next_at": 0.0})
        await webhooks.chore("deliver:ses_1/msg_1")
        await until(lambda: not webhooks._tasks)

    assert [attempt.status for attempt in both.attempts] == [502, 500]
    assert store.known_deliveries["msg_1"].state == "delivered"
    assert counted.outcomes == ["retried"]


# --- where they may lead ---------------------------------------------------------------------------------------------


def _resolving(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> list[str]:
    """Names lead where these say, one look-up after the other; which addresses were connected to."""
    connected: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    class Backend(httpcore.AsyncMockBackend):
        async def connect_tcp(self, host: str, *args: Any, **options: Any) -> Any:
            connected.append(host)
            raise httpcore.ConnectError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(httpcore, "AnyIOBackend", lambda: Backend([]))
    return connected


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1"])
async def test_a_name_that_leads_inside_is_not_called(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """One private address among public ones is enough. The error names the receiver's side only."""
    connected = _resolving(monkeypatch, [["8.8.8.8", address]])
    attempt = await sender(MemoryStore()).test("ann", endpoint(), "msg_1")

    assert attempt.error == "the URL leads to an address that is not public" and attempt.status is None
    assert connected == []


async def test_the_address_that_was_checked_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that changes its mind after the check changes nothing."""
    connected = _resolving(monkeypatch, [["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])
    attempt = await sender(MemoryStore()).test("ann", endpoint(), "msg_1")

    assert attempt.error == "no connection, or no answer in HTTP"
    assert connected == ["8.8.8.8"]


async def test_no_setting_leads_to_a_clouds_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Private networks may be allowed; link-local addresses are not among them."""
    connected = _resolving(monkeypatch, [["169.254.169.254"], ["192.168.1.1"]])
    webhooks = sender(MemoryStore(), allow_private=True)

    assert (await webhooks.test("ann", endpoint(), "msg_1")).error == "the URL leads to an address that is not public"
    assert (await webhooks.test("ann", endpoint(url="http://169.254.169.254/"), "msg_1")).status is None
    assert (await webhooks.test("ann", endpoint(), "msg_1")).error == "no connection, or no answer in HTTP"
    assert connected == ["192.168.1.1"]
