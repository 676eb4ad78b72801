"""Clients of Redis or Valkey, by URL: one server, a server that sentinels watch, or a cluster.

    redis://host:6379/0                             rediss:// with TLS, unix:///path for a socket
    redis+sentinel://host:26379,host:26379/name/0   the server that these sentinels call by that name
    redis+cluster://host:6379,host:6379             any of its nodes; all our keys lie in one slot

A client of a single server repeats only calls that say that they may be done twice: whether any other command whose answer was
lost took effect is unknown, and the driver reads the log to find out. A cluster's client sends a command again when a connection
breaks, so a script may run twice. The scripts are written for that: `create` recognizes its own id, a second append is refused
because the log has grown, and sessions of a lost claim are found by the runner's audit.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.store.closed_transport import with_closed_transport
from orchestrator.store.silence import CALL, CallOptions, Silences, watched

_T = TypeVar("_T")
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 5.0
_SENTINEL_S: Final = 1.0
"""Timeout for one sentinel, short enough to ask the next one within `_ANSWER_S`."""
_POOL: Final = 64
_KEPT_ALIVE: Final[dict[str, Any]] = {
    "socket_keepalive": True,
    # A server that vanished is noticed within half a minute, where the system has these options.
    "socket_keepalive_options": {
        getattr(socket, name): value
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    },
}
_PORTS: Final = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is.

    Attributes:
        kind: how to find it.
        url: the URL of a single server.
        hosts: the sentinels, or nodes of the cluster.
        service: the name of the server that sentinels watch.
        options: user, password, database, TLS.
    """

    kind: Literal["single", "sentinel", "cluster"]
    url: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: tuple[tuple[str, Any], ...] = ()


def parse(url: str, password: str | None = None) -> Address:
    """Parse a Redis URL.

    Args:
        password: for a URL without one.

    Raises:
        ValueError: with what is wrong with it.
    """
    scheme, _, rest = url.partition("://")
    plain, _, kind = scheme.partition("+")
    if plain not in {"redis", "rediss", "unix"} or not rest:
        raise ValueError("it must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if not kind:
        return Address("single", url=_with_password(url, password))
    if kind not in _PORTS or plain == "unix":
        raise ValueError(f"{scheme}:// is not known; use redis+sentinel:// or redis+cluster://")
    credentials, _, place = rest.rpartition("@")
    if password and ":" not in credentials:
        credentials = f"{credentials}:{quote(password, safe='')}"
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    options: dict[str, Any] = {"ssl": True} if plain == "rediss" else {}
    if credentials:
        user, _, password = credentials.rpartition(":")
        options |= {"username": unquote(user) or None, "password": unquote(password)}
    if kind == "cluster" and path:
        raise ValueError("redis+cluster:// takes no path: a cluster has one database")
    if kind == "sentinel":
        if not service:
            raise ValueError("redis+sentinel:// needs the name of the server: redis+sentinel://host:26379/name")
        if database and not database.isdigit():
            raise ValueError(f"the database {database!r} is not a number")
        options["db"] = int(database or 0)
    return Address(kind, hosts=_hosts(hosts, _PORTS[kind]), service=service, options=tuple(options.items()))  # type: ignore[arg-type]  # one of the two


def _with_password(url: str, password: str | None) -> str:
    scheme, _, rest = url.partition("://")
    credentials, at, _ = rest.partition("/")[0].rpartition("@")
    if not password or ":" in credentials:
        return url
    return f"{scheme}://{credentials}:{quote(password, safe='')}@{rest[len(credentials + at) :]}"


class _OnceMore(Retry):
    """Repeats a call once on a new connection, if that may be done twice."""

    def __init__(self) -> None:
        super().__init__(NoBackoff(), 0)

    async def call_with_retry(self, do: Callable[[], Awaitable[_T]], *args: Any, **options: Any) -> _T:
        try:
            return await super().call_with_retry(do, *args, **options)
        except RedisConnectionError:
            if not CALL.get().repeatable:
                raise
        return await super().call_with_retry(do, *args, **options)


def client(address: Address, *, connections: int = _POOL, subscribes: bool = False) -> Redis:
    """A client; it connects when it is used. Call `aclose` at the end.

    It has no socket timeout, since a quiet channel is not an error; `redis_call` bounds the time of a call.

    Args:
        subscribes: whether it waits for messages, so that silence says nothing.
    """
    silences = Silences()

    def connection_of(kind: type[AbstractConnection]) -> type[AbstractConnection]:
        return with_closed_transport(kind) if subscribes else watched(kind, silences)

    options: dict[str, Any] = {"socket_connect_timeout": _CONNECT_S, "socket_timeout": None, **_KEPT_ALIVE}
    if address.kind == "single":
        options |= parse_url(address.url)
        kind = connection_of(options.pop("connection_class", Connection))
        pool = BlockingConnectionPool(
            connection_class=kind, max_connections=connections, timeout=30, retry=_OnceMore(), **options
        )
        return Redis.from_pool(pool)
    options |= dict(address.options)
    if address.kind == "sentinel":
        secured = options.pop("ssl", False)
        options["connection_class"] = connection_of(SentinelManagedSSLConnection if secured else SentinelManagedConnection)
        watchers = _watchers(address)
        # The pool raises when it is exhausted, so it has to be large enough for all concurrent calls.
        master: Redis = watchers.master_for(address.service, max_connections=16 * connections, retry=_OnceMore(), **options)
        return master
    # A cluster's client counts following a redirection, rediscovering the nodes, and repeating a command after a broken
    # connection as retries: without any it would not survive a failover. Its interface is that of Redis but for the type.
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    cluster: Any = RedisCluster(
        startup_nodes=nodes, max_connections=16 * connections, retry=Retry(ConstantBackoff(0.05), 3), **options
    )
    # It has no argument for the class of its connections.
    kind = connection_of(SSLConnection if options.get("ssl") else Connection)
    cluster.connection_kwargs["connection_class"] = kind
    for node in cluster.startup_nodes:
        node.connection_class = kind
    return cluster  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def redis_call(*, repeatable: bool = False, blocks_s: float = 0.0) -> AsyncIterator[None]:
    """Bound a call to Redis in time, and raise `StorageUnavailableError` in place of the client's exceptions.

    Args:
        repeatable: whether it may be done twice; it is then repeated when its connection breaks.
        blocks_s: seconds that Redis may hold the answer back.
    """
    token = CALL.set(CallOptions(repeatable, blocks_s))
    # The client's own `socket_timeout` is an `asyncio.wait_for`, which on Python 3.11 can swallow a cancellation.
    # A cluster without a reachable node raises exceptions that are not RedisErrors.
    try:
        async with asyncio.timeout(_ANSWER_S):
            yield
    except (RedisError, RedisClusterException, TimeoutError, OSError) as exc:
        raise _translated(exc) from exc
    finally:
        CALL.reset(token)


_REFUSALS: Final = {
    "OOM": "out of memory",
    "READONLY": "it is read-only",
    "NOREPLICAS": "too few of its replicas are connected",
    "MISCONF": "it cannot save to its disk",
}
"""Redis' error codes for writes that it refuses while it answers everything else."""
_REFUSAL: Final = re.compile(rf"\b({'|'.join(_REFUSALS)})\b")


def _translated(exc: Exception) -> StorageUnavailableError:
    # The client strips the codes that have classes of their own.
    classes = {OutOfMemoryError: "OOM", ReadOnlyError: "READONLY"}
    code = next((code for kind, code in classes.items() if isinstance(exc, kind)), None)
    if code is None and isinstance(exc, ResponseError) and (found := _REFUSAL.search(str(exc))):
        code = found[1]
    if code is None and (isinstance(exc, AuthenticationError) or "HELLO must be called" in str(exc)):
        # Redis' own text about HELLO does not say that it wants a password.
        return StorageUnavailableError(
            "Redis refuses the password, or needs one: set EDITTHINKER_REDIS_PASSWORD",
            shown="the session store refuses this server: wrong password, or none where it needs one",
        )
    if code is None:
        return StorageUnavailableError(f"Redis did not answer: {exc}")
    reason = _REFUSALS[code]
    return StorageUnavailableError(
        f"Redis refuses writes ({reason}): {exc}", shown=f"the session store refuses writes ({reason})"
    )


def listeners(address: Address) -> Callable[[], Redis]:
    """A factory of clients to subscribe with, one for each connection."""
    if address.kind != "cluster":
        return lambda: client(address, connections=4, subscribes=True)
    # Every node of a cluster receives all published messages; the library's own subscriber cannot move to another node.
    hosts = itertools.cycle(address.hosts)

    def of_the_next_node() -> Redis:
        host, port = next(hosts)
        options: dict[str, Any] = {**_KEPT_ALIVE, **dict(address.options)}
        kind = with_closed_transport(SSLConnection if options.pop("ssl", False) else Connection)
        options |= {"host": host, "port": port, "socket_connect_timeout": _CONNECT_S, "socket_timeout": None}
        return Redis.from_pool(ConnectionPool(connection_class=kind, retry=Retry(NoBackoff(), 0), **options))

    return of_the_next_node


def _watchers(address: Address) -> Sentinel:
    """The sentinels, with the URL's credentials and, for sentinels that refuse credentials, without."""
    # Without retries: where one is unreachable the next is asked at once.
    plain: dict[str, Any] = {"socket_timeout": _SENTINEL_S, "socket_connect_timeout": _SENTINEL_S, "retry": Retry(NoBackoff(), 0)}
    plain |= {name: value for name, value in address.options if name == "ssl"}
    credentials = {name: value for name, value in address.options if name in {"username", "password"}}
    watchers = Sentinel(list(address.hosts), sentinel_kwargs={**plain, **credentials})  # type: ignore[no-untyped-call]  # as the library has it
    if credentials:
        # The library moves a sentinel that answered to the front.
        watchers.sentinels += Sentinel(list(address.hosts), sentinel_kwargs=plain).sentinels  # type: ignore[no-untyped-call]  # as above
    return watchers


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for part in text.split(","):
        split = urlsplit(f"//{part}")
        if not split.hostname:
            raise ValueError(f"{part!r} is not a host")
        found.append((split.hostname, split.port or port))
    return tuple(found)
