"""An edit between the requests and the executor: what is wanted, what is told on the way, and the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from PIL import Image

from services.editor.engine.scheduler import Entry, due
from services.editor.pipelines import Edit, EditJob, EditResult
from services.errors import ApiError


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished edit.

    Attributes:
        result: the picture, before `Pipeline.finish`.
        queue_s: seconds it waited for its first advance.
        edit_s: seconds the device spent on it: its share of the advances, without the pauses between them.
        stages: seconds of the stages that the pipeline tells apart (``encode``, ``denoise``, ``decode``).
        steps: denoise steps done; 0 for families without.
        batch: how many edits shared its advances, on average.
    """

    result: EditResult
    queue_s: float
    edit_s: float
    stages: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    batch: float = 1.0


Listener = Callable[[int, int, Image.Image | None], None]
"""Told steps done, steps in all, and an unfinished picture if there is a new one; on the executor's thread."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One edit's place in line.

    Its caller waits for ``answer``, and cancels it to stop the edit before its next advance. Everything else belongs to
    the executor.
    """

    id: int
    job: EditJob
    urgency: int = 0
    listener: Listener | None = None
    answer: Future[Outcome] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    due: float = 0.0
    held_until: float | None = None
    edit: Edit | None = None
    began: float | None = None
    busy_s: float = 0.0
    advances: int = 0
    shared: int = 0
    alone: bool = False

    def entry(self) -> Entry:
        """The ticket as the scheduler sees it."""
        edit = self.edit
        if edit is None or not edit.started:
            return Entry(self.id, self.due, held_until=self.held_until, alone=self.alone)
        return Entry(self.id, self.due, True, edit.group, edit.cost, self.held_until, self.alone)

    def plan(self, work_s: float) -> None:
        """Set the due time of an edit of ``work_s`` seconds."""
        self.due = due(self.arrived, work_s, self.urgency)

    def advanced(self, seconds: float, batch: int) -> None:
        """An advance in a batch of so many took so long."""
        self.busy_s += seconds / batch
        self.advances += 1
        self.shared += batch

    def outcome(self, result: EditResult) -> Outcome:
        """The answer of a finished edit."""
        assert self.edit is not None
        assert self.began is not None
        waited = self.began - self.arrived
        batch = self.shared / self.advances if self.advances else 1.0
        return Outcome(result, waited, self.busy_s, dict(self.edit.timings), self.edit.step, batch)

    def settle(self, outcome: Outcome | Exception) -> None:
        """Answer, unless the caller has gone or a shutdown has answered already."""
        if self.answer.done() or not self.answer.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


def out_of_memory() -> ApiError:
    """The answer to an edit that does not fit on the device even alone."""
    return ApiError("out_of_memory", "the edit needs more memory than the editor has; ask for a smaller size")
