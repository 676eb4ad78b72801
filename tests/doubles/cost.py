"""How work grows with its input. CPU time of one thread, compared with itself, so that a busy machine makes no difference."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Final

_REPEATS: Final = 3
_ROUNDS: Final = 4
_FLOOR_S: Final = 0.01
"""Below it the clock's resolution and the interpreter's own work decide."""


def cpu_s(work: Callable[[], object]) -> float:
    """Seconds of this thread's CPU time: the least of a few runs."""
    costs = []
    # A collection would look through everything that other tests of this process have left.
    gc.disable()
    try:
        for _ in range(_REPEATS):
            began = time.thread_time()
            work()
            costs.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(costs)


def grows_linearly(work: Callable[[int], object], size: int) -> bool:
    """Whether four times the input takes about four times as long, and not sixteen times, as quadratic work does.

    What others do on the processor can only add to a time, so the least of more runs is nearer to the work's own.
    """
    large = small = math.inf
    for _ in range(_ROUNDS):
        large = min(large, cpu_s(lambda: work(size)))
        small = min(small, cpu_s(lambda: work(size // 4)))
        if large < 9 * max(small, _FLOOR_S):
            return True
    return False
