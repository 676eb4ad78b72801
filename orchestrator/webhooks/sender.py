"""Sends webhooks by the Standard Webhooks specification: signed, at least once, with retries. It runs two kinds of chores:

    hook:<session>/<seq>              schedule one delivery of an event for each endpoint
    deliver:<session>/<delivery id>   attempt a delivery that is due

The runner does not wait for an attempt, since receivers may be slow: the delivery's timer is postponed beyond the end of the
attempt, in case this replica dies, and the outcome sets it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import httpcore
import httpx
from standardwebhooks import Webhook

from orchestrator.egress.addresses import (
    CheckedNetworkBackend,
    ForbiddenAddressError,
    InvalidURLError,
    checked_url,
    is_public,
    is_public_or_local,
)
from orchestrator.egress.resolver import NameResolver, ResolutionTimeoutError
from orchestrator.ports.collaborators import Clock
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import Sessions
from orchestrator.webhooks.model import OWN_ENDPOINT, TEST, Attempt, Deliveries, Delivery, Endpoint, Outcome
from orchestrator.webhooks.schedule import RETRY_DELAYS_S, after_attempt, deliveries_of, event_body
from services.serving.retry import read_retry_after

log = logging.getLogger(__name__)

CHORES: Final = frozenset({"hook", "deliver"})
_MAX_PER_ENDPOINT: Final = 8
"""Attempts in flight for one endpoint."""
_MAX_PER_HOST: Final = 32
"""Attempts in flight for one host, of all tenants, tests included: webhooks may name a host that asked for none of them."""
_MAX_PER_TENANT: Final = 128
"""Attempts in flight for one tenant, webhooks that it has deleted since included, so that others' go on."""
_MAX_IN_FLIGHT: Final = 256
_MAX_QUEUE_S: Final = 60.0
"""The longest that a delivery to a busy endpoint is postponed, so that its queue drains once a slow receiver recovers."""
_MARGIN_S: Final = 5.0
_THROTTLES: Final = frozenset({429, 502, 503, 504})
"""After which no attempt at the same endpoint is made for a while."""
_ERRORS: Final = (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class DeliveryObserver(Protocol):
    """Observes deliveries; metrics implement it."""

    def webhook_delivered(self, outcome: Outcome) -> None:
        """An attempt had this outcome."""
        ...


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """How webhooks are sent.

    Attributes:
        timeout_s: seconds that an attempt may take.
        time_scale: of the schedule; 1 but for tests.
        allow_private: whether receivers may be on this machine (also by http) or in a private network.
        resolver: resolves the host names of receivers.
    """

    timeout_s: float = 20.0
    time_scale: float = 1.0
    allow_private: bool = False
    resolver: NameResolver = field(default_factory=NameResolver)

    def checked_url(self, url: str) -> httpcore.URL:
        """The URL as it is called; raises `InvalidURLError`."""
        return checked_url(url, allowed=self.allowed, allow_http=self.allow_private)

    def allowed(self, address: str) -> bool:
        """Whether a receiver may have this address."""
        return is_public_or_local(address) if self.allow_private else is_public(address)

    def network(self, tenant: str) -> CheckedNetworkBackend:
        """Connects to a tenant's receivers."""
        return CheckedNetworkBackend(self.resolver, tenant, self.allowed)


@dataclass(slots=True)
class _EndpointQueue:
    """The attempts at one endpoint.

    Attributes:
        in_flight: attempts under way.
        attempt_s: moving average of an attempt's duration.
        end: when the last postponed delivery is due, Unix seconds.
        paused_until: until when the receiver asked for a pause.
    """

    in_flight: int = 0
    attempt_s: float = 0.2
    end: float = 0.0
    paused_until: float = 0.0

    def postponed_to(self, now: float, *, full: bool) -> float | None:
        """When to try a delivery again; None where it can be attempted now."""
        if self.paused_until <= now and self.in_flight < _MAX_PER_ENDPOINT and not full:
            return None
        soonest = max(now + self.attempt_s, self.paused_until)
        self.end = min(max(soonest, self.end + self.attempt_s / _MAX_PER_ENDPOINT), soonest + _MAX_QUEUE_S)
        return self.end

    def idle(self, now: float) -> bool:
        """Whether it holds no state that is still needed."""
        return not self.in_flight and max(self.end, self.paused_until) < now


class WebhookSender:
    """Schedules and attempts deliveries. Every step can be repeated by another replica where this one dies.

    Args:
        store: endpoints and deliveries.
        sessions: the logs that hold the events.
    """

    def __init__(
        self, store: Deliveries, sessions: Sessions, clock: Clock, options: SenderOptions, observer: DeliveryObserver
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._options = options
        self._observer = observer
        self._ssl = httpx.create_ssl_context()
        self._queues: dict[str, _EndpointQueue] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._in_flight: dict[str, Delivery] = {}
        self._tests: Counter[str] = Counter()

    async def chore(self, chore: str) -> bool:
        """Run a due chore; False where its timer was set to when it is due again.

        Raises:
            PortError: when it has to be repeated.
        """
        kind, _, name = chore.partition(":")
        session_id, _, rest = name.rpartition("/")
        if kind == "hook":
            await self._schedule(session_id, int(rest))
            return True
        return await self._begin(session_id, rest)

    def check(self, url: str) -> None:
        """Whether a URL may be called, as far as that shows without resolving its host; raises `InvalidURLError`."""
        self._options.checked_url(url)

    async def test(self, tenant: str, endpoint: Endpoint, event_id: str) -> Attempt:
        """Send ``webhook.test`` once, and return the attempt."""
        if self._busy(endpoint.host):
            return Attempt(at=self._clock.now(), error="too many requests to this host are under way; try again later")
        text = event_body(TEST, self._clock.now(), {"id": endpoint.id}, f"evt_{event_id.removeprefix('msg_')}")
        self._tests[endpoint.host] += 1
        try:
            return await self._attempt(tenant, endpoint, event_id, text)
        finally:
            self._tests[endpoint.host] -= 1
            self._tests += Counter()  # drops those at zero

    def _busy(self, host: str) -> bool:
        """Whether a host gets as many requests as it may."""
        delivering = sum(delivery.host == host for delivery in self._in_flight.values())
        return bool(host) and delivering + self._tests[host] >= _MAX_PER_HOST

    def _used_up(self, tenant: str) -> bool:
        """Whether a tenant has as many attempts in flight as it may."""
        return sum(delivery.tenant == tenant for delivery in self._in_flight.values()) >= _MAX_PER_TENANT

    async def stop(self) -> None:
        """Stop, and leave the attempts in flight to other replicas at once."""
        left = dict(self._in_flight)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_MARGIN_S)
        with contextlib.suppress(StorageUnavailableError):
            for delivery in left.values():
                await self._store.postpone(delivery, self._clock.now())

    # --- scheduling -------------------------------------------------------------------------------------------------------

    async def _schedule(self, session_id: str, seq: int) -> None:
        entries = await self._sessions.read(session_id)
        if not entries:
            return  # deleted
        tenant = entries[0].event.tenant if entries[0].event.type == "session_created" else ""
        endpoints = await self._store.endpoints(tenant)
        if own := await self._store.own_endpoint(session_id):
            endpoints = [*endpoints, own]
        await self._store.schedule(session_id, deliveries_of(session_id, entries, seq, endpoints, self._clock.now()))

    # --- attempts ----------------------------------------------------------------------------------------------------

    async def _begin(self, session_id: str, delivery_id: str) -> bool:
        """Start an attempt if it is due and there is capacity; False where the chore is due again."""
        found = await self._store.find(session_id, delivery_id)
        if found is None or found[0].state != "pending":
            return True
        delivery, stored = found
        now = self._clock.now()
        # Endpoints that were named with sessions are one receiver if they have one host.
        own = delivery.webhook == OWN_ENDPOINT
        queue = self._queue(f"{delivery.tenant}/{delivery.host}" if own else delivery.webhook, now)
        full = len(self._in_flight) >= _MAX_IN_FLIGHT or self._busy(delivery.host) or self._used_up(delivery.tenant)
        if delivery.next_at is not None and delivery.next_at > now:
            later: float | None = delivery.next_at
        elif delivery_id in self._in_flight:
            later = self._latest_end(now)
        else:
            later = queue.postponed_to(now, full=full)
        if later is not None:
            await self._store.postpone(delivery, later)
            return False
        # Counted before the store is awaited: other chores run in the meantime.
        queue.in_flight += 1
        self._in_flight[delivery_id] = delivery
        try:
            await self._store.postpone(delivery, self._latest_end(now))
        except BaseException:  # cancellation too: the capacity must be released
            self._release(delivery_id, queue)
            raise
        self._tasks[delivery_id] = asyncio.create_task(self._deliver(delivery, stored, queue), name=delivery_id)
        return False

    def _release(self, delivery_id: str, queue: _EndpointQueue) -> None:
        queue.in_flight -= 1
        del self._in_flight[delivery_id]

    def _latest_end(self, now: float) -> float:
        """When an attempt that starts now has ended and its outcome is stored, at the latest."""
        return now + self._options.timeout_s + min(self._options.timeout_s, _MARGIN_S)

    def _queue(self, endpoint_id: str, now: float) -> _EndpointQueue:
        if endpoint_id not in self._queues and len(self._queues) >= _MAX_IN_FLIGHT:
            self._queues = {name: queue for name, queue in self._queues.items() if not queue.idle(now)}
        return self._queues.setdefault(endpoint_id, _EndpointQueue())

    async def _deliver(self, delivery: Delivery, stored: bytes, queue: _EndpointQueue) -> None:
        try:
            endpoint = await self._endpoint(delivery)
            if endpoint is None or endpoint.disabled_at is not None:
                note = "the webhook was deleted" if endpoint is None else "the webhook is disabled"
                dropped = delivery.model_copy(update={"state": "dropped", "next_at": None, "note": note})
                await self._store.replace(dropped, stored)
                return
            attempt = await self._attempt(delivery.tenant, endpoint, delivery.id, delivery.body)
            queue.attempt_s = (queue.attempt_s + max(0.01, attempt.duration_s)) / 2
            await self._record(delivery, stored, attempt, queue)
        except StorageUnavailableError as exc:
            log.warning("delivery %s is tried again: %s", delivery.id, exc.message)
        except Exception:  # a bug in one delivery must not stop the others
            log.exception("delivery %s failed because of a bug, and is tried again", delivery.id)
        finally:
            del self._tasks[delivery.id]
            self._release(delivery.id, queue)

    async def _endpoint(self, delivery: Delivery) -> Endpoint | None:
        if delivery.webhook == OWN_ENDPOINT:
            return await self._store.own_endpoint(delivery.session_id)
        return await self._store.endpoint(delivery.tenant, delivery.webhook)

    async def _record(self, delivery: Delivery, stored: bytes, attempt: Attempt, queue: _EndpointQueue) -> None:
        """Store an attempt, together with that of another replica where both made one."""
        while True:
            changed, outcome = after_attempt(delivery, attempt, scale=self._options.time_scale, jitter=random.random())
            if attempt.status in _THROTTLES:
                pause = max(RETRY_DELAYS_S[0] * self._options.time_scale, attempt.retry_after_s or 0.0)
                queue.paused_until = max(queue.paused_until, self._clock.now() + min(pause, _MAX_QUEUE_S))
            if await self._store.replace(changed, stored):
                break
            found = await self._store.find(delivery.session_id, delivery.id)
            if found is None or found[0].state != "pending":
                return  # its session was deleted, or another replica delivered it
            delivery, stored = found
        self._observer.webhook_delivered(outcome)
        if outcome == "disabled":
            await self._store.enable(delivery.tenant, delivery.webhook, disabled_at=self._clock.now())
            log.warning("webhook %s answered 410 and is disabled", delivery.webhook)
        elif outcome == "failed":
            log.warning(
                "delivery %s to webhook %s failed %d times and is given up",
                delivery.id,
                delivery.webhook,
                len(RETRY_DELAYS_S) + 1,
            )

    async def _attempt(self, tenant: str, endpoint: Endpoint, event_id: str, text: str) -> Attempt:
        """One request. It does not raise: an error is recorded by its kind, without details of the network."""
        at = self._clock.now()
        status, wait, error = None, None, None
        try:
            async with asyncio.timeout(self._options.timeout_s):
                reply = await self._post(endpoint, event_id, text, at, self._options.network(tenant))
            status, wait = reply.status, _retry_after(reply, at)
        except TimeoutError:
            error = f"no answer within {self._options.timeout_s:g} s"
        except InvalidURLError as exc:
            error = exc.message
        except ResolutionTimeoutError as exc:
            error = str(exc)
        except ForbiddenAddressError:
            error = "the URL leads to an address that is not public"
        except _ERRORS as exc:
            error = _kind_of(exc)
        duration_s = round(max(0.0, self._clock.now() - at), 3)
        return Attempt(at=at, status=status, error=error, duration_s=duration_s, retry_after_s=wait)

    async def _post(
        self, endpoint: Endpoint, event_id: str, text: str, at: float, network: CheckedNetworkBackend
    ) -> httpcore.Response:
        """The head of the response; its body is not read. Redirects are not followed, and no proxy is used."""
        target = self._options.checked_url(endpoint.url)
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


def _kind_of(exc: BaseException) -> str:
    """The kind of an error: its text could reveal details of the internal network."""
    if isinstance(exc, socket.gaierror | UnicodeError):
        return "the name cannot be resolved"
    if isinstance(exc.__cause__, ssl.SSLError):
        return "no TLS connection: the certificate is not trusted, or is for another name"
    return "no connection, or no answer in HTTP"


def _retry_after(reply: httpcore.Response, now: float) -> float | None:
    value = next((value.decode("latin-1") for name, value in reply.headers if name.lower() == b"retry-after"), None)
    return read_retry_after(value, now)
