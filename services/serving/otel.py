"""`services.serving.tracing` by OpenTelemetry's SDK: batches over OTLP/HTTP, from a thread of its own.

The provider is ours alone and not the process's: libraries that trace by themselves stay silent. Sampling and batching are
set by OpenTelemetry's own variables (``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_…``); the sampler sees a session's trace id, so
that every replica decides alike.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.serving.tracing import Attributes, Kind, Span, SpanRef

_KINDS: Final[Mapping[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}
_NS: Final = 1_000_000_000
_LONGEST_CLOSE_S: Final = 3.0


class _Ids(RandomIdGenerator):
    """Random ids, but for a span whose ids are given."""

    def __init__(self) -> None:
        self._given = threading.local()

    def give(self, ref: SpanRef | None) -> None:
        """The ids of the next span of this thread."""
        self._given.ref = ref

    def generate_trace_id(self) -> int:
        ref: SpanRef | None = getattr(self._given, "ref", None)
        return super().generate_trace_id() if ref is None else ref.trace

    def generate_span_id(self) -> int:
        ref: SpanRef | None = getattr(self._given, "ref", None)
        return super().generate_span_id() if ref is None else ref.span

    def is_trace_id_random(self) -> bool:
        return False


class _Live(Span):
    """A span that is kept."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        assert self._token is not None
        contexts.detach(self._token)
        if isinstance(exc, asyncio.CancelledError | GeneratorExit):
            # Nobody wants it any more, which is no failure.
            self._span.set_attribute("editthinker.stopped", value=True)
        elif exc is not None:
            self.failed(str(getattr(exc, "code", type(exc).__name__)), str(getattr(exc, "message", exc)))
        self._span.end()

    def annotate(self, attributes: Attributes, *, name: str | None = None) -> None:
        self._span.set_attributes(attributes)
        if name is not None:
            self._span.update_name(name)

    def failed(self, code: str, message: str = "") -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR, message[:500] or code))


class Otlp:
    """`services.serving.tracing.Backend` over OTLP/HTTP."""

    def __init__(self, service: str, endpoint: str, instance: str) -> None:
        resource = Resource.create({"service.name": service, "service.namespace": "editthinker", "service.instance.id": instance})
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("editthinker")
        self._propagator = TraceContextTextMapPropagator()

    def span(self, name: str, kind: Kind, attributes: Attributes, parent: SpanRef | None) -> Span:
        """A span around a ``with`` block."""
        above = None if parent is None else self._above(parent)
        return _Live(self._tracer.start_span(name, above, _KINDS[kind], attributes))

    def server(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
        """The span of a request that came in."""
        # An empty context: a request is below its caller's span or a root, never below what ran here before it.
        above = self._propagator.extract(dict(headers), Context())
        return _Live(self._tracer.start_span(name, above, SpanKind.SERVER, attributes))

    def record(
        self, name: str, times: tuple[float, float], attributes: Attributes, ref: SpanRef | None, parent: SpanRef | None
    ) -> None:
        """A span that is over."""
        above = self._above(parent) if parent is not None else Context() if ref is not None else None
        self._ids.give(ref)
        try:
            span = self._tracer.start_span(name, above, attributes=attributes, start_time=round(times[0] * _NS))
        finally:
            self._ids.give(None)
        span.end(round(max(times) * _NS))

    def annotate(self, attributes: Attributes) -> None:
        """Say more of the current span."""
        trace.get_current_span().set_attributes(attributes)

    def link(self, ref: SpanRef) -> None:
        """The current span has to do with another."""
        trace.get_current_span().add_link(self._context(ref))

    def headers(self) -> dict[str, str]:
        """``traceparent``, and ``tracestate`` if there is one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def ids(self) -> Mapping[str, str]:
        """The current span, in hexadecimal digits."""
        found = trace.get_current_span().get_span_context()
        return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"} if found.is_valid else {}

    def close(self) -> None:
        """Send what is kept, if somebody takes it: a collector that is away must not hold a shutdown."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_LONGEST_CLOSE_S)

    def _context(self, ref: SpanRef) -> SpanContext:
        # As the sampler decides for the root of that trace, wherever it is recorded.
        decision = self._provider.sampler.should_sample(None, ref.trace, "session").decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return SpanContext(ref.trace, ref.span, is_remote=True, trace_flags=flags)

    def _above(self, ref: SpanRef) -> Context:
        return trace.set_span_in_context(NonRecordingSpan(self._context(ref)), Context())
