"""Supervised background loops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def run_forever(
    name: str, step: Callable[[], Awaitable[object]], *, pause_s: float, max_failures: int | None = None
) -> None:
    """Repeat a step until cancelled.

    An exception of the step is a bug. A rare one must not end the loop, so it is logged with its traceback and the next step
    follows after a pause. After `max_failures` failures in a row the last one is raised, so that the process can be restarted.

    Args:
        name: for the log.
        step: waits for its own work.
        pause_s: after a failure.
        max_failures: in a row; None for no limit.
    """
    failures = 0
    while True:
        try:
            await step()
            failures = 0
        except Exception:  # every bug of a step
            failures += 1
            if failures == max_failures:
                raise
            log.exception("%s failed because of a bug, and goes on in %g s", name, pause_s)
            await asyncio.sleep(pause_s)
