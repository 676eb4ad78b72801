"""The worker's Prometheus metrics. The engine reports to them through its observer protocols."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.editor.engine.executor import Executor, State
from services.serving import tracing

_DEPRECATED = "Deprecated, removed in the next release: use editthinker_editor_{}."
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_INNER = ("encode", "denoise", "decode")
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16)


class Metrics:
    """The worker's metrics, in a registry of its own so that two applications in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("editthinker_editor_requests_total", "Edit requests.", ["outcome"], registry=self.registry)
        # Of registered names only.
        self._loras = Counter(
            "editthinker_editor_lora_requests_total", "Edit requests with a LoRA.", ["lora"], registry=self.registry
        )
        self._stages = Histogram(
            "editthinker_editor_stage_seconds",
            "Time of each stage of an edit.",
            ["stage"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._advance = Histogram(
            "editthinker_editor_advance_seconds",
            "Time of one pass over the device: an edit's start, or a step of a batch.",
            ["kind"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._batch = Histogram(
            "editthinker_editor_batch_size", "Edits that shared a step.", registry=self.registry, buckets=_BATCHES
        )
        self._wasted = Counter(
            "editthinker_editor_wasted_steps_total", "Denoise steps of edits that were dropped.", registry=self.registry
        )

    def watch(self, executor: Executor) -> None:
        """Export the executor's figures, read at each scrape."""
        for name, text, read in (
            ("in_flight", "Edits decoding, waiting, running or encoding.", lambda: executor.in_flight),
            ("inside", _DEPRECATED.format("in_flight"), lambda: executor.in_flight),
            ("waiting", "Edits that wait for their first pass over the device.", lambda: executor.waiting),
            ("running", "Edits that are started and not finished.", lambda: executor.running),
            ("backlog_seconds", "Seconds until all edits in flight would be finished.", executor.backlog_s),
            ("batch_limit", "Most edits in one step.", lambda: executor.limits.batch),
            (
                "batch_token_limit",
                "Most tokens in one step of several edits; 0 without a limit.",
                lambda: executor.limits.cost or 0,
            ),
            ("ready", "Whether the worker takes requests.", lambda: executor.state is State.READY),
        ):
            Gauge(f"editthinker_editor_{name}", text, registry=self.registry).set_function(read)
        self.registry.register(_PipelineFigures(executor))
        self.registry.register(_CostFigures(executor))

    def on_finished(self, outcome: str) -> None:
        """See `services.editor.engine.async_engine.EngineObserver`."""
        self._requests.labels(outcome).inc()

    def on_lora(self, name: str) -> None:
        """A request for this registered LoRA was taken."""
        self._loras.labels(name).inc()

    def on_stage(self, stage: str, seconds: float) -> None:
        """See `services.editor.engine.async_engine.EngineObserver`."""
        self._stages.labels(stage).observe(seconds)

    def on_advance(self, edits: int, seconds: float, *, start: bool) -> None:
        """See `services.editor.engine.executor.ExecutorObserver`."""
        self._advance.labels("start" if start else "step").observe(seconds)
        if not start:
            self._batch.observe(edits)

    def on_wasted(self, steps: int) -> None:
        """See `services.editor.engine.executor.ExecutorObserver`."""
        self._wasted.inc(steps)


def trace_stages(timings: Mapping[str, float], arrived: float) -> None:
    """Record child spans for the stages of an edit, laid end to end: their durations are known, but not when an edit was
    interrupted for another one's steps. `arrived` is by `time.perf_counter`.
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
    "encoder_cache_hits": (CounterMetricFamily, "Encodings of sources and texts that were cached."),
    "encoder_cache_misses": (CounterMetricFamily, "Encodings of sources and texts that were computed."),
    "encoder_cache_bytes": (GaugeMetricFamily, "Size of the encoder cache."),
    "lora_bytes": (GaugeMetricFamily, "Size of the LoRAs that requests may name."),
    "lora_switches": (CounterMetricFamily, "Passes before which another LoRA, or none, was chosen."),
    "device_bytes": (GaugeMetricFamily, "Memory of the device that is in use."),
}
_FORMER_NAMES = {
    "encoder_cache_hits": "remembered_hits",
    "encoder_cache_misses": "remembered_misses",
    "encoder_cache_bytes": "remembered_bytes",
}


class _PipelineFigures(Collector):
    """Exports the pipeline's own figures: its encoder cache and the device's memory."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def collect(self) -> Iterable[Metric]:
        figures: Mapping[str, float] = self._executor.figures()
        for name, value in figures.items():
            kind, text = _FIGURES.get(name, (GaugeMetricFamily, "As the pipeline counts it."))
            yield kind(f"editthinker_editor_{name}", text, value=value)
            if name in _FORMER_NAMES:
                yield kind(f"editthinker_editor_{_FORMER_NAMES[name]}", _DEPRECATED.format(name), value=value)


class _CostFigures(Collector):
    """Exports the executor's cost model, by the size of an edit."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def collect(self) -> Iterable[Metric]:
        alone = GaugeMetricFamily("editthinker_editor_cost_seconds", "Time of a step of one edit.", labels=["tokens"])
        marginal = GaugeMetricFamily(
            "editthinker_editor_cost_marginal",
            "What one more edit adds to a step, as a share of a step of one: batches form below 0.9, where the queue is long.",
            labels=["tokens"],
        )
        for knot in self._executor.cost_model.knots:
            alone.add_metric([str(round(knot.tokens))], knot.alone_s)
            marginal.add_metric([str(round(knot.tokens))], knot.marginal)
        return [alone, marginal]
