"""Tells webhooks what happened, by the Standard Webhooks specification: signed, at least once, and again in its schedule.

    hook:<session>/<seq>              an event is to be told: plan one delivery for each endpoint
    deliver:<session>/<delivery id>   a delivery is due: one attempt

An attempt is no chore that the runner waits for, since receivers may be slow: its timer is put off beyond the attempt's
own end, in case we die, and the outcome sets it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import httpcore
import httpx
from standardwebhooks import Webhook

from orchestrator.egress.addresses import Checked, InvalidURLError, PrivateAddressError, is_near_or_public, is_public, read_url
from orchestrator.egress.lookups import Lookups, LookupTimeoutError
from orchestrator.ports import Clock, Sessions, StorageUnavailableError
from orchestrator.webhooks.model import (
    TEST,
    THROTTLES,
    WAITS_S,
    Attempt,
    Deliveries,
    Delivery,
    Endpoint,
    Outcome,
    after,
    body,
    planned,
)
from services.serving.retry import read_retry_after

log = logging.getLogger(__name__)

CHORES: Final = frozenset({"hook", "deliver"})
_AT_A_TIME: Final = 8
"""Attempts under way for one endpoint."""
_IN_ALL: Final = 256
_LONGEST_LINE_S: Final = 60.0
"""Behind a slow receiver a delivery is looked at again after this, or the line would not get shorter when it recovers."""
_MARGIN_S: Final = 5.0
_ERRORS: Final = (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class Watch(Protocol):
    """Who is told how deliveries go."""

    def webhook_delivered(self, outcome: Outcome) -> None:
        """An attempt came to this."""
        ...


@dataclass(frozen=True, slots=True)
class Sending:
    """How webhooks are sent.

    Attributes:
        timeout_s: seconds that an attempt may take.
        time_scale: of the schedule; 1 but for tests.
        allow_private: whether receivers may be on this machine, by http too, or in a private network.
        lookups: finds where their names lead.
    """

    timeout_s: float = 20.0
    time_scale: float = 1.0
    allow_private: bool = False
    lookups: Lookups = field(default_factory=Lookups)

    def read(self, url: str) -> httpcore.URL:
        """The URL as it is called; raises `InvalidURLError`."""
        return read_url(url, allowed=self.allowed, plain=self.allow_private)

    def allowed(self, address: str) -> bool:
        """Whether a receiver may be there."""
        return is_near_or_public(address) if self.allow_private else is_public(address)

    def network(self, tenant: str) -> Checked:
        """What leads to a tenant's receivers."""
        return Checked(self.lookups, tenant, self.allowed)


@dataclass(slots=True)
class _Line:
    """The attempts at one endpoint: how many are under way, how long they take, and when there is room for the next.

    Attributes:
        last: until when the line reaches, Unix seconds.
        closed_until: the receiver asked for a pause.
    """

    busy: int = 0
    pace_s: float = 0.2
    last: float = 0.0
    closed_until: float = 0.0

    def room_at(self, now: float, *, full: bool) -> float | None:
        """When to look again; None: there is room now."""
        if self.closed_until <= now and self.busy < _AT_A_TIME and not full:
            return None
        soonest = max(now + self.pace_s, self.closed_until)
        self.last = min(max(soonest, self.last + self.pace_s / _AT_A_TIME), soonest + _LONGEST_LINE_S)
        return self.last

    def idle(self, now: float) -> bool:
        """Whether nothing needs to be remembered of it."""
        return not self.busy and max(self.last, self.closed_until) < now


class Webhooks:
    """Plans and sends; what it does it does for any replica that died in it.

    Args:
        store: endpoints and deliveries.
        sessions: where the events are.
    """

    def __init__(self, store: Deliveries, sessions: Sessions, clock: Clock, sending: Sending, watch: Watch) -> None:
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._sending = sending
        self._watch = watch
        self._ssl = httpx.create_ssl_context()
        self._lines: dict[str, _Line] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._under_way: dict[str, Delivery] = {}

    async def chore(self, chore: str) -> bool:
        """Do what is due; False where its timer says already when it comes again.

        Raises:
            PortError: when it has to come again.
        """
        kind, _, name = chore.partition(":")
        session_id, _, rest = name.rpartition("/")
        if kind == "hook":
            await self._plan(session_id, int(rest))
            return True
        return await self._begin(session_id, rest)

    def check(self, url: str) -> None:
        """Whether it may be called, as far as that can be told without looking up where it leads; raises `InvalidURLError`."""
        self._sending.read(url)

    async def test(self, tenant: str, endpoint: Endpoint, event_id: str) -> Attempt:
        """Send ``webhook.test``, once; what came of it."""
        text = body(TEST, self._clock.now(), {"id": endpoint.id})
        return await self._attempt(tenant, endpoint, event_id, text)

    async def stop(self) -> None:
        """Leave what is under way to another replica, at once."""
        left = dict(self._under_way)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_MARGIN_S)
        with contextlib.suppress(StorageUnavailableError):
            for delivery in left.values():
                await self._store.put_off(delivery, self._clock.now())

    # --- plans -------------------------------------------------------------------------------------------------------

    async def _plan(self, session_id: str, seq: int) -> None:
        entries = await self._sessions.read(session_id)
        if not entries:
            return  # deleted
        tenant = entries[0].event.tenant if entries[0].event.type == "session_created" else ""
        endpoints = await self._store.endpoints(tenant)
        await self._store.plan(session_id, planned(session_id, entries, seq, endpoints, self._clock.now()))

    # --- attempts ----------------------------------------------------------------------------------------------------

    async def _begin(self, session_id: str, delivery_id: str) -> bool:
        """Start an attempt if it is due and there is room; False: it comes again."""
        found = await self._store.find(session_id, delivery_id)
        if found is None or found[0].state != "pending":
            return True
        delivery, written = found
        now = self._clock.now()
        line = self._line(delivery.webhook, now)
        full = len(self._under_way) >= _IN_ALL
        if delivery.next_at is not None and delivery.next_at > now:
            later: float | None = delivery.next_at
        elif delivery_id in self._under_way:
            later = self._unless_done(now)
        else:
            later = line.room_at(now, full=full)
        if later is not None:
            await self._store.put_off(delivery, later)
            return False
        # It takes its room before it waits for the store: others come meanwhile.
        line.busy += 1
        self._under_way[delivery_id] = delivery
        try:
            await self._store.put_off(delivery, self._unless_done(now))
        except BaseException:  # whatever it is, a cancel too: the room must not stay taken
            self._leave(delivery_id, line)
            raise
        self._tasks[delivery_id] = asyncio.create_task(self._deliver(delivery, written, line), name=delivery_id)
        return False

    def _leave(self, delivery_id: str, line: _Line) -> None:
        line.busy -= 1
        del self._under_way[delivery_id]

    def _unless_done(self, now: float) -> float:
        """When an attempt that begins now is over for certain, its outcome written."""
        return now + self._sending.timeout_s + min(self._sending.timeout_s, _MARGIN_S)

    def _line(self, endpoint_id: str, now: float) -> _Line:
        if endpoint_id not in self._lines and len(self._lines) >= _IN_ALL:
            self._lines = {name: line for name, line in self._lines.items() if not line.idle(now)}
        return self._lines.setdefault(endpoint_id, _Line())

    async def _deliver(self, delivery: Delivery, written: bytes, line: _Line) -> None:
        try:
            endpoint = await self._store.endpoint(delivery.tenant, delivery.webhook)
            if endpoint is None or endpoint.disabled_at is not None:
                note = "the webhook was deleted" if endpoint is None else "the webhook is disabled"
                dropped = delivery.model_copy(update={"state": "dropped", "next_at": None, "note": note})
                await self._store.replace(dropped, written)
                return
            attempt = await self._attempt(delivery.tenant, endpoint, delivery.id, delivery.body)
            line.pace_s = (line.pace_s + max(0.01, attempt.duration_s)) / 2
            await self._record(delivery, written, attempt, line)
        except StorageUnavailableError as exc:
            log.warning("delivery %s is tried again: %s", delivery.id, exc.message)
        except Exception:  # the edge of a delivery: a bug in one must not stop the others
            log.exception("delivery %s failed because of a bug, and comes again", delivery.id)
        finally:
            del self._tasks[delivery.id]
            self._leave(delivery.id, line)

    async def _record(self, delivery: Delivery, written: bytes, attempt: Attempt, line: _Line) -> None:
        """Write down an attempt; with another replica's beside it, where both made one."""
        while True:
            changed, outcome = after(delivery, attempt, scale=self._sending.time_scale, jitter=random.random())
            if attempt.status in THROTTLES:
                pause = max(WAITS_S[0] * self._sending.time_scale, attempt.retry_after_s or 0.0)
                line.closed_until = max(line.closed_until, self._clock.now() + min(pause, _LONGEST_LINE_S))
            if await self._store.replace(changed, written):
                break
            found = await self._store.find(delivery.session_id, delivery.id)
            if found is None or found[0].state != "pending":
                return  # its session was deleted, or it arrived by another replica
            delivery, written = found
        self._watch.webhook_delivered(outcome)
        if outcome == "disabled":
            await self._store.enable(delivery.tenant, delivery.webhook, disabled_at=self._clock.now())
            log.warning("webhook %s answered 410 and is disabled", delivery.webhook)
        elif outcome == "failed":
            log.warning(
                "delivery %s to webhook %s failed %d times and is given up", delivery.id, delivery.webhook, len(WAITS_S) + 1
            )

    async def _attempt(self, tenant: str, endpoint: Endpoint, event_id: str, text: str) -> Attempt:
        """One request. It never raises: whatever goes wrong is the receiver's, and told by its kind alone."""
        at = self._clock.now()
        status, wait, error = None, None, None
        try:
            async with asyncio.timeout(self._sending.timeout_s):
                reply = await self._post(endpoint, event_id, text, at, self._sending.network(tenant))
            status, wait = reply.status, _retry_after(reply, at)
        except TimeoutError:
            error = f"no answer within {self._sending.timeout_s:g} s"
        except InvalidURLError as exc:
            error = exc.message
        except LookupTimeoutError as exc:
            error = str(exc)
        except PrivateAddressError:
            error = "the URL leads to an address that is not public"
        except _ERRORS as exc:
            error = _told(exc)
        duration_s = round(max(0.0, self._clock.now() - at), 3)
        return Attempt(at=at, status=status, error=error, duration_s=duration_s, retry_after_s=wait)

    async def _post(self, endpoint: Endpoint, event_id: str, text: str, at: float, network: Checked) -> httpcore.Response:
        """The head of the answer; what follows it is not read. Redirects are not followed, and there is no proxy."""
        target = self._sending.read(endpoint.url)
        when = datetime.fromtimestamp(int(at), UTC)
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": "EditThinker-Webhooks",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(at)),
            "webhook-signature": " ".join(Webhook(secret).sign(event_id, when, text) for secret in endpoint.secrets(at)),
            "connection": "close",
        }
        pool = httpcore.AsyncConnectionPool(ssl_context=self._ssl, network_backend=network)
        async with pool, pool.stream("POST", target, headers=headers, content=text.encode()) as reply:
            return reply


def _told(exc: BaseException) -> str:
    """What went wrong, by its kind: the text may tell of networks that are no business of the caller's."""
    if isinstance(exc, socket.gaierror | UnicodeError):
        return "the name cannot be resolved"
    if isinstance(exc.__cause__, ssl.SSLError):
        return "no TLS connection: the certificate is not trusted, or is for another name"
    return "no connection, or no answer in HTTP"


def _retry_after(reply: httpcore.Response, now: float) -> float | None:
    value = next((value.decode("latin-1") for name, value in reply.headers if name.lower() == b"retry-after"), None)
    return read_retry_after(value, now)
