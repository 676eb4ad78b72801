"""What the worker does, as Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.editor.executor import Executor, State

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Telemetry:
    """The worker's metrics, in a registry of its own so that two applications in one process do not collide."""

    def __init__(self, executor: Executor) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("editthinker_editor_requests_total", "Edit requests.", ["outcome"], registry=self.registry)
        self._stages = Histogram(
            "editthinker_editor_stage_seconds",
            "Time of each stage of an edit.",
            ["stage"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        inside = Gauge("editthinker_editor_inside", "Requests decoding, waiting, running or encoding.", registry=self.registry)
        inside.set_function(lambda: executor.admitted)
        ready = Gauge("editthinker_editor_ready", "Whether the worker takes requests.", registry=self.registry)
        ready.set_function(lambda: executor.state is State.READY)

    def finished(self, outcome: str) -> None:
        """A request ended: ``ok``, ``replayed``, ``left``, or the code of its error."""
        self._requests.labels(outcome).inc()

    def took(self, stage: str, seconds: float) -> None:
        """A stage (``queue``, ``decode``, ``edit``, ``encode``) took so long."""
        self._stages.labels(stage).observe(seconds)
