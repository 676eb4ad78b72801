"""What goes round for as long as the process lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def run_forever(name: str, step: Callable[[], Awaitable[object]], *, pause_s: float, most: int | None = None) -> None:
    """Take a step, which waits for something, again and again until cancelled.

    What the step does not handle is a bug. One that comes once in a month must not end the loop for good, so it is logged with
    its trace, and the next step comes after a pause. Where nothing else comes, the loop ends after `most` failures in a row
    and raises the last, so that whoever watches the process can begin anew.
    """
    failures = 0
    while True:
        try:
            await step()
            failures = 0
        except Exception:  # the edge of a loop
            failures += 1
            if failures == most:
                raise
            log.exception("%s failed because of a bug, and goes on in %g s", name, pause_s)
            await asyncio.sleep(pause_s)
