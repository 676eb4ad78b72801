"""The sessions that a replica holds: one value for each, from its claim to its end here."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from orchestrator.execution.driver import Driver
from orchestrator.execution.quarantine import TRIAL_S
from orchestrator.ports.stores import Claim


@dataclass(slots=True, eq=False)
class Held:
    """A session that this replica claimed.

    Attributes:
        claim: with its fence, its deadline and its attempts.
        task: drives it, or ends it.
        driver: once its log was read.
        signalled: whether somebody wrote to it before it had a driver.
        unowned: whether the last audit found that Redis does not list it as this replica's.
    """

    claim: Claim
    task: asyncio.Task[None] = field(init=False)
    driver: Driver | None = None
    signalled: bool = False
    unowned: bool = False
    _trial_ends: float | None = None

    def begin_trial(self) -> None:
        """It is at its last attempt: no other such session is driven until its first event, for a minute at most."""
        self._trial_ends = time.monotonic() + TRIAL_S

    @property
    def on_trial(self) -> bool:
        """Whether it may still be what kills its drivers."""
        if self._trial_ends is None or time.monotonic() >= self._trial_ends:
            return False
        return self.driver is None or self.driver.last_event <= self.claim.seq

    def signal(self, *, missed: bool = False) -> None:
        """Somebody wrote to it, or notifications were missed."""
        if self.driver is not None:
            self.driver.signal(missed=missed)
        elif not missed:
            self.signalled = True

    def drive(self, driver: Driver, *, leaving: bool) -> None:
        """It has a driver now, which learns what happened since the claim."""
        self.driver = driver
        if self.signalled:
            driver.signal()
        if leaving:
            driver.leave()
