"""What an edit costs of editors' time, try by try, by a clock that runs only while an editor can be at work."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class RequestTiming:
    """One sending of an edit. It is written while it happens, so that what an edit cost is known also where it is stopped.

    Attributes:
        sent_at: when its body was out; nobody worked on it before (monotonic clock).
        back_at: when it was answered, broke, or was given up.
        worked_s: what is known better than by the clock: the editor's own word, or 0 if it did not take the edit.
    """

    sent_at: float = math.inf
    back_at: float = math.inf
    worked_s: float | None = None

    @property
    def seconds(self) -> float:
        """What it has cost until now."""
        if self.worked_s is not None:
            return self.worked_s
        return max(0.0, min(self.back_at, time.monotonic()) - self.sent_at)


def spent(tries: Iterable[RequestTiming]) -> float:
    """Editor seconds of all of them."""
    return sum(each.seconds for each in tries)
