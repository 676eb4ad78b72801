"""Traces across processes: OpenTelemetry where an endpoint is configured, and nothing at all, at no cost, elsewhere.

What a session did is one trace, whoever drove it: `session` and `turn` derive its ids from the session's own, so a replica
that takes a session over goes on in the same trace without being told, and no id has to be kept.

    session                     recorded by whoever recorded the session's end
      drive                     one for each replica that had it in its hands
      turn                      recorded by whoever recorded the turn's end
        edit, critique          and below them the calls, and what the editor and the thinker tell

Only composition roots call `configure`. OpenTelemetry is imported there, and nowhere else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, Self

log = logging.getLogger(__name__)

Kind = Literal["internal", "server", "client"]
Value = str | bool | int | float | list[str]
Attributes = Mapping[str, Value]
_SESSION: Final = re.compile(r"ses_([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class SpanRef:
    """A span by its ids."""

    trace: int
    span: int


class Span:
    """A piece of work, as a context manager. This one does nothing: the one there is without an endpoint."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def annotate(self, attributes: Attributes, *, name: str | None = None) -> None:
        """Say more of it; `name` in place of the one it began with."""

    def failed(self, code: str, message: str = "") -> None:
        """It came to nothing, without an exception that says so."""


class Backend(Protocol):
    """What keeps spans; `services.serving.otel` has the only one."""

    def span(self, name: str, kind: Kind, attributes: Attributes, parent: SpanRef | None) -> Span:
        """See `span`."""
        ...

    def server(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
        """See `server`."""
        ...

    def record(
        self, name: str, times: tuple[float, float], attributes: Attributes, ref: SpanRef | None, parent: SpanRef | None
    ) -> None:
        """See `record`."""
        ...

    def annotate(self, attributes: Attributes) -> None:
        """See `annotate`."""
        ...

    def link(self, ref: SpanRef) -> None:
        """See `link`."""
        ...

    def headers(self) -> dict[str, str]:
        """See `headers`."""
        ...

    def ids(self) -> Mapping[str, str]:
        """See `ids`."""
        ...

    def close(self) -> None:
        """Send what is kept."""
        ...


_OFF: Final = Span()
_NONE: Final[Mapping[str, str]] = {}
_backend: Backend | None = None


def configure(service: str, endpoint: str | None) -> None:
    """Send spans to an OTLP/HTTP endpoint from now on, if there is one.

    Args:
        service: this process's kind.
        endpoint: base URL; ``/v1/traces`` is put behind it.
    """
    global _backend  # noqa: PLW0603 - like logging, traces are a matter of the process
    if not endpoint:
        return
    try:
        from services.serving import otel  # noqa: PLC0415 - optional, and slow to import
    except ImportError as exc:
        log.warning("no traces are sent: pip install 'editthinker[otel]' (%s)", exc)
        return
    _backend = otel.Otlp(service, endpoint, f"{socket.gethostname()}-{os.getpid()}")


def close() -> None:
    """Send what is kept: the last thing an application does. It may take seconds, and blocks."""
    if _backend is not None:
        _backend.close()


def on() -> bool:
    """Whether spans are kept: what is costly to say of one need not be worked out otherwise."""
    return _backend is not None


def span(name: str, kind: Kind = "internal", attributes: Attributes | None = None, *, parent: SpanRef | None = None) -> Span:
    """A span around a ``with`` block: below `parent`, or below the span that this task is in."""
    return _OFF if _backend is None else _backend.span(name, kind, attributes or {}, parent)


def server(name: str, headers: Mapping[str, str], attributes: Attributes | None = None) -> Span:
    """The span of a request that came in, below its caller's if its headers name one."""
    return _OFF if _backend is None else _backend.server(name, headers, attributes or {})


def record(
    name: str,
    times: tuple[float, float],
    attributes: Attributes | None = None,
    *,
    ref: SpanRef | None = None,
    parent: SpanRef | None = None,
) -> None:
    """A span that is over.

    Args:
        name: what was done.
        times: begin and end, in Unix seconds.
        attributes: what to say of it.
        ref: its ids, if they are known; then it is the root of its trace unless `parent` is given.
        parent: the one above; the current one if neither is given.
    """
    if _backend is not None:
        _backend.record(name, times, attributes or {}, ref, parent)


def annotate(attributes: Attributes) -> None:
    """Say more of the current span."""
    if _backend is not None:
        _backend.annotate(attributes)


def link(ref: SpanRef) -> None:
    """The current span has to do with another, of another trace."""
    if _backend is not None:
        _backend.link(ref)


def headers() -> dict[str, str]:
    """What to send with a request, so that the spans of whoever answers it stand below the current one."""
    return {} if _backend is None else _backend.headers()


def ids() -> Mapping[str, str]:
    """The current span, for a line of the log."""
    return _NONE if _backend is None else _backend.ids()


def session(session_id: str) -> SpanRef:
    """The root span of a session's trace. The trace's id is the session's."""
    found = _SESSION.fullmatch(session_id)
    trace = int(found[1], 16) if found else 0
    return SpanRef(trace or _derived(session_id, 16), _derived(f"{session_id}/session", 8))


def turn(session_id: str, number: int) -> SpanRef:
    """The span of one of its turns."""
    return SpanRef(session(session_id).trace, _derived(f"{session_id}/turn/{number}", 8))


def _derived(text: str, size: int) -> int:
    # Zero is no id; one in 2^64 is not worth more than this.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1
