"""Traces across processes, with OpenTelemetry: exported where an endpoint is configured, no-op elsewhere.

A session is one trace, across all replicas that drive it: `session_context` and `turn_context` derive its ids from the
session's own, so a replica that takes a session over continues the same trace without any stored id.

    session                     recorded by the replica that recorded the session's end
      drive                     one for each replica that drove it
      turn                      recorded by the replica that recorded the turn's end
        edit, critique          and below them the calls, and the spans of the editor and the thinker

Only composition roots call `configure`, which imports OpenTelemetry's SDK; the API alone is a no-op. The provider is not made
the process's global one, so libraries that are instrumented themselves stay silent. Sampling and batching are configured by
OpenTelemetry's own variables (``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_…``); the sampler sees a session's trace id, so every
replica decides alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

Kind = Literal["internal", "client"]
Value = str | bool | int | float | list[str]
Attributes = Mapping[str, Value]

_MAX_CHOICES: Final = 16
"""Choices of a chat completion that are described; thinkers are asked for 16 at most."""
_KINDS: Final[Mapping[Kind, SpanKind]] = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_SESSION: Final = re.compile(r"ses_([0-9a-f]{32})")
_NS: Final = 1_000_000_000
_CLOSE_TIMEOUT_S: Final = 3.0
_MAX_MESSAGE: Final = 500
"""Characters of a span's error message."""

_propagator: Final = TraceContextTextMapPropagator()
_given_ids: Final[ContextVar[SpanContext | None]] = ContextVar("given_ids", default=None)
"""The ids of the span that is being started, if they are not random."""
_provider: TracerProvider | None = None
_tracer: trace.Tracer = trace.NoOpTracer()


def configure(service: str, endpoint: str | None) -> None:
    """Export spans to an OTLP/HTTP endpoint from now on, if one is given.

    Args:
        service: this process's kind.
        endpoint: base URL; ``/v1/traces`` is appended.
    """
    global _provider, _tracer  # noqa: PLW0603 - as with logging, the tracer is the process's
    if not endpoint:
        return
    try:
        _provider = _otlp_provider(service, endpoint)
    except ImportError as exc:
        log.warning("no traces are sent: pip install 'editthinker[otel]' (%s)", exc)
        return
    _tracer = _provider.get_tracer("editthinker")


def _otlp_provider(service: str, endpoint: str) -> TracerProvider:
    # Imported here: optional, and slow to import.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    class GivenIds(RandomIdGenerator):
        """Random ids, except for a span whose ids are given."""

        def generate_trace_id(self) -> int:
            given = _given_ids.get()
            return given.trace_id if given else super().generate_trace_id()

        def generate_span_id(self) -> int:
            given = _given_ids.get()
            return given.span_id if given else super().generate_span_id()

        def is_trace_id_random(self) -> bool:
            return False

    instance = f"{socket.gethostname()}-{os.getpid()}"
    resource = Resource.create({"service.name": service, "service.namespace": "editthinker", "service.instance.id": instance})
    provider = TracerProvider(resource=resource, id_generator=GivenIds(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return provider


def close() -> None:
    """Export the remaining spans, at an application's end. Blocks, for at most three seconds: an unreachable collector must
    not delay a shutdown.
    """
    if _provider is not None:
        closing = threading.Thread(target=_provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)


def enabled() -> bool:
    """Whether spans are exported; otherwise costly attributes need not be computed."""
    return _provider is not None


@contextmanager
def span(
    name: str, kind: Kind = "internal", attributes: Attributes | None = None, *, parent: SpanContext | None = None
) -> Iterator[Span]:
    """A span around a ``with`` block: below `parent`, or below the current span."""
    if not enabled():
        yield INVALID_SPAN
        return
    above = _below(parent) if parent is not None else None
    with _current(_tracer.start_span(name, above, _KINDS[kind], attributes)) as started:
        yield started


@contextmanager
def server_span(name: str, headers: Mapping[str, str], attributes: Attributes | None = None) -> Iterator[Span]:
    """The span of an incoming request, below its caller's if the headers name one."""
    if not enabled():
        yield INVALID_SPAN
        return
    # An empty context: the parent is the caller's span or none, never one that was current here before.
    above = _propagator.extract(dict(headers), Context())
    with _current(_tracer.start_span(name, above, SpanKind.SERVER, attributes)) as started:
        yield started


@contextmanager
def _current(started: Span) -> Iterator[Span]:
    token = context.attach(trace.set_span_in_context(started))
    try:
        yield started
    except (asyncio.CancelledError, GeneratorExit):
        # Cancelled by its caller, which is not a failure.
        started.set_attribute("editthinker.stopped", value=True)
        raise
    except BaseException as exc:
        fail(started, str(getattr(exc, "code", type(exc).__name__)), str(getattr(exc, "message", exc)))
        raise
    finally:
        context.detach(token)
        started.end()


def fail(failed: Span, code: str, message: str = "") -> None:
    """Mark a span as failed when no exception was raised."""
    failed.set_attribute("error.type", code)
    failed.set_status(Status(StatusCode.ERROR, message[:_MAX_MESSAGE] or code))


def record(
    name: str,
    times: tuple[float, float],
    attributes: Attributes | None = None,
    *,
    ids: SpanContext | None = None,
    parent: SpanContext | None = None,
) -> None:
    """Record a span that has ended.

    Args:
        name: the operation.
        times: start and end, in Unix seconds.
        attributes: of the span.
        ids: its ids, if not random; then it is the root of its trace unless `parent` is given.
        parent: the span above; the current one if neither is given.
    """
    if not enabled():
        return
    above = _below(parent) if parent is not None else Context() if ids is not None else None
    token = _given_ids.set(ids)
    try:
        ended = _tracer.start_span(name, above, attributes=attributes, start_time=round(times[0] * _NS))
    finally:
        _given_ids.reset(token)
    ended.end(round(max(times) * _NS))


def headers() -> dict[str, str]:
    """The headers that make the spans of a request's server children of the current span."""
    if not enabled():
        return {}
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


def ids() -> Mapping[str, str]:
    """The current span's ids in hexadecimal digits, for a log record."""
    found = trace.get_current_span().get_span_context()
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"} if found.is_valid else {}


def session_context(session_id: str) -> SpanContext:
    """The root span of a session's trace. The trace's id is the session's."""
    return _derived_context(session_id, f"{session_id}/session")


def turn_context(session_id: str, number: int) -> SpanContext:
    """The span of one of a session's turns."""
    return _derived_context(session_id, f"{session_id}/turn/{number}")


def _derived_context(session_id: str, name: str) -> SpanContext:
    found = _SESSION.fullmatch(session_id)
    trace_id = (int(found[1], 16) if found else 0) or _derived_id(session_id, 16)
    # Decided as for the root of that trace, which another replica may record.
    decision = _provider.sampler.should_sample(None, trace_id, "session").decision.name if _provider else "DROP"
    flags = TraceFlags(TraceFlags.SAMPLED if decision == "RECORD_AND_SAMPLE" else TraceFlags.DEFAULT)
    return SpanContext(trace_id, _derived_id(name, 8), is_remote=True, trace_flags=flags)


def _derived_id(text: str, size: int) -> int:
    # Zero is not a valid id; its probability is 2^-64.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1


def _below(parent: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


_CHAT_REQUEST: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}
"""Semantic conventions for generative AI, by the request's field."""


def chat_request(fields: Mapping[str, Any]) -> dict[str, Value]:
    """Attributes of a chat completion's request, by OpenTelemetry's conventions for generative AI.

    Counts and names only: the texts are in the session, and do not belong in a trace.
    """
    # The provider is the API's, as OpenAI's own client reports of every compatible server.
    out: dict[str, Value] = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    if isinstance(fields.get("model"), str):
        out["gen_ai.request.model"] = fields["model"]
    out |= {attribute: fields[name] for name, attribute in _CHAT_REQUEST.items() if type(fields.get(name)) in {int, float}}
    if isinstance(fields.get("n"), int) and fields["n"] > 1:
        out["gen_ai.request.choice.count"] = fields["n"]
    return out


def chat_response(completion: Any) -> dict[str, Value]:
    """Attributes of a chat completion, as `chat_request`; total on any JSON value."""
    if not isinstance(completion, dict):
        return {}
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    numbers = {
        "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
        "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
    }
    names = {"gen_ai.response.model": completion.get("model"), "gen_ai.response.id": completion.get("id")}
    out: dict[str, Value] = {name: value for name, value in numbers.items() if type(value) is int}
    out |= {name: value[:200] for name, value in names.items() if isinstance(value, str)}
    choices = completion.get("choices")
    if isinstance(choices, list):
        reasons = [choice.get("finish_reason") for choice in choices[:_MAX_CHOICES] if isinstance(choice, dict)]
        out["gen_ai.response.finish_reasons"] = [reason[:200] if isinstance(reason, str) else "None" for reason in reasons]
    return out
