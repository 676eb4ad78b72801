"""Editor seconds: what was executed, what of it became a recorded candidate, what was stopped on purpose, what was wasted.

A second is one edit's: two edits that share a step of 0.04 s have 0.08 s. The journal is written before each step, so a
step that a kill cut short counts in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.evidence import Evidence
from tests.chaos.slow_editor import digest

Place = tuple[int, str]
"""A candidate, as the editor knows it: seed, and digest of the prompt."""


@dataclass(frozen=True)
class Waste:
    """Editor seconds."""

    executed: float
    useful: float
    on_purpose: float
    """Of edits that a cancel, a deadline or a person's word made needless."""
    unknown: float
    """Of edits that no recorded intent asked for; must be none."""
    runs: int
    repeats: int
    """Complete runs in addition to the recorded one."""
    whole_again: float
    """Seconds of complete runs in addition to the recorded one; the rest of the waste broke off."""

    @property
    def wasted(self) -> float:
        return self.executed - self.useful - self.on_purpose

    @property
    def share(self) -> float:
        return self.wasted / self.executed if self.executed else 0.0


def measure(evidence: Evidence, journals: Iterable[Path]) -> Waste:
    """Compare journals and logs."""
    runs = _runs(journals)
    recorded, stopped = _places(evidence)
    useful = on_purpose = unknown = executed = again = 0.0
    repeats = 0
    for place, seconds in runs.items():
        total = sum(done for done, _ in seconds)
        executed += total
        repeats += len(seconds) - 1
        if place in recorded:
            # Of several whole runs one was recorded; they cost the same.
            done = [done for done, whole in seconds if whole]
            useful += max(done, default=0.0)
            again += sum(done) - max(done, default=0.0)
        elif place in stopped:
            on_purpose += total
        else:
            unknown += total
    return Waste(executed, useful, on_purpose, unknown, sum(map(len, runs.values())), repeats, again)


def _runs(journals: Iterable[Path]) -> dict[Place, list[tuple[float, bool]]]:
    """By candidate: (seconds, whether it came to its end) of each run."""
    seconds: dict[tuple[Place, str], float] = defaultdict(float)
    whole: set[str] = set()
    for journal in journals:
        for line in journal.read_text().splitlines():
            run, seed, prompt, step, steps, step_s = line.split()
            seconds[(int(seed), prompt), run] += float(step_s)
            if step == steps:
                whole.add(run)
    found: dict[Place, list[tuple[float, bool]]] = defaultdict(list)
    for (place, run), total in seconds.items():
        found[place].append((total, run in whole))
    return found


def _places(evidence: Evidence) -> tuple[set[Place], set[Place]]:
    """Candidates that were recorded, and those that were begun and then not wanted."""
    recorded: set[Place] = set()
    begun: set[Place] = set()
    for session_id in evidence.logs:
        prompts: dict[int, str] = {}
        seeds: dict[tuple[int, int], int] = {}
        for event in evidence.events(session_id):
            if event["type"] == "turn_started":
                prompts[event["turn"]] = digest(event["instruction"])
            elif event["type"] == "edit_started":
                seeds[event["turn"], event["candidate"]] = event["seed"]
                begun.add((event["seed"], prompts[event["turn"]]))
            elif event["type"] == "edited":
                recorded.add((seeds[event["turn"], event["candidate"]], prompts[event["turn"]]))
    return recorded, begun - recorded
