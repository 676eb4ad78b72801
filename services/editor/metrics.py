"""What the worker does, as Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.editor.engine.executor import Executor, State
from services.serving import tracing

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_INNER = ("encode", "denoise", "decode")
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16)


class Metrics:
    """The worker's metrics, in a registry of its own so that two applications in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("editthinker_editor_requests_total", "Edit requests.", ["outcome"], registry=self.registry)
        self._stages = Histogram(
            "editthinker_editor_stage_seconds",
            "Time of each stage of an edit.",
            ["stage"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._advance = Histogram(
            "editthinker_editor_advance_seconds",
            "Time of one turn on the device: an edit's start, or a step of a batch.",
            ["kind"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._batch = Histogram(
            "editthinker_editor_batch_size", "Edits that shared a step.", registry=self.registry, buckets=_BATCHES
        )
        self._wasted = Counter(
            "editthinker_editor_wasted_steps_total", "Denoise steps of edits that nobody waited for.", registry=self.registry
        )

    def watch(self, executor: Executor) -> None:
        """Show the executor's own figures, read when they are asked for."""
        for name, text, read in (
            ("inside", "Edits decoding, waiting, running or encoding.", lambda: executor.admitted),
            ("waiting", "Edits that wait for their first turn.", lambda: executor.waiting),
            ("running", "Edits that are started and not over.", lambda: executor.running),
            ("backlog_seconds", "Seconds until everything inside would be done.", executor.backlog_s),
            ("batch_limit", "Most edits in one step; less after the device ran out of memory.", lambda: executor.limits.batch),
            ("ready", "Whether the worker takes requests.", lambda: executor.state is State.READY),
        ):
            Gauge(f"editthinker_editor_{name}", text, registry=self.registry).set_function(read)
        self.registry.register(_PipelineFigures(executor))

    def finished(self, outcome: str) -> None:
        """A request ended: ``ok``, ``replayed``, ``left``, ``cancelled``, or the code of its error."""
        self._requests.labels(outcome).inc()

    def took(self, stage: str, seconds: float) -> None:
        """A stage (``read``, ``queue``, ``edit``, ``write``, and those a pipeline tells apart) took so long."""
        self._stages.labels(stage).observe(seconds)

    def advanced(self, edits: int, seconds: float, *, start: bool) -> None:
        """The executor had a turn; see `services.editor.engine.executor.Meter`."""
        self._advance.labels("start" if start else "step").observe(seconds)
        if not start:
            self._batch.observe(edits)

    def wasted(self, steps: int) -> None:
        """An edit was dropped after so many steps."""
        self._wasted.inc(steps)


def trace_stages(timings: Mapping[str, float], arrived: float) -> None:
    """Spans for the stages of an edit, below its request's, laid end to end: how long each took is known, and not when it
    was interrupted for another edit's steps. `arrived` is by `time.perf_counter`.
    """
    if not tracing.enabled():
        return
    inner = [stage for stage in _INNER if f"{stage}_ms" in timings] or ["edit"]
    now = time.time()
    began = now - (time.perf_counter() - arrived)
    for stage in ("read", "queue", *inner, "write"):
        ended = began + timings.get(f"{stage}_ms", 0.0) / 1000
        tracing.record(stage, (began, min(ended, now)))
        began = min(ended, now)


_FIGURES: Mapping[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str]] = {
    "remembered_hits": (CounterMetricFamily, "Sources and texts that need not be encoded again."),
    "remembered_misses": (CounterMetricFamily, "Sources and texts that were encoded."),
    "remembered_bytes": (GaugeMetricFamily, "Memory that is kept of what encoders made."),
    "device_bytes": (GaugeMetricFamily, "Memory of the device that is in use."),
}


class _PipelineFigures(Collector):
    """What the pipeline itself counts: its memory of encoded sources, and the device's."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def collect(self) -> Iterable[Metric]:
        figures: Mapping[str, float] = self._executor.figures()
        for name, value in figures.items():
            kind, text = _FIGURES.get(name, (GaugeMetricFamily, "As the pipeline counts it."))
            yield kind(f"editthinker_editor_{name}", text, value=value)
