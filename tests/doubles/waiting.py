"""Waiting until another task or thread has done something. The limit ends a test that would never end, and asserts nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

LIMIT_S: Final = 120.0
_PAUSE_S: Final = 0.002
_YIELDS: Final = 50
"""Turns of the event loop before it waits for threads."""


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks and threads run until the condition holds."""
    ends = time.monotonic() + LIMIT_S
    turns = 0
    while not condition():
        assert time.monotonic() < ends, "the condition never held"
        turns += 1
        await asyncio.sleep(0 if turns < _YIELDS else _PAUSE_S)


def wait(condition: Callable[[], object]) -> None:
    """Let other threads run until the condition holds."""
    ends = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < ends, "the condition never held"
        threading.Event().wait(_PAUSE_S)


async def turns(count: int = 20) -> None:
    """Let every task that can run do so: what has not happened afterwards waits for something else."""
    for _ in range(count):
        await asyncio.sleep(0)
