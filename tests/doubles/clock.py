"""Time that passes when a test says so."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import pytest


class ManualTime:
    """Stands in for the module `time`: every clock of it shows the same seconds, which only `advance` changes."""

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += seconds

    def monotonic(self) -> float:
        return self._now

    perf_counter = time = monotonic

    def now(self) -> float:
        """`orchestrator.ports.collaborators.Clock`."""
        return self._now


class SystemClock:
    """`orchestrator.ports.collaborators.Clock`: this machine's time."""

    def now(self) -> float:
        return time.time()


def manual_time(patch: pytest.MonkeyPatch, *modules: ModuleType) -> ManualTime:
    """Put one `ManualTime` in the place of the module `time` in some modules."""
    clock: Any = ManualTime()
    for module in modules:
        patch.setattr(module, "time", clock)
    return clock  # type: ignore[no-any-return]
