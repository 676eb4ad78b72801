"""Editor seconds: executed, useful (a recorded candidate), stopped on purpose, and wasted.

Seconds are counted per edit: two edits that share a step of 0.04 s count 0.08 s. The journal is written before each step, so
a step that a kill interrupts counts in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.evidence import Evidence
from tests.chaos.slow_editor import digest

CandidateKey = tuple[int, str]
"""A candidate as the editor identifies it: seed and digest of the prompt."""


@dataclass(frozen=True)
class Waste:
    """Editor seconds."""

    executed: float
    useful: float
    on_purpose: float
    """Of edits that a cancel, a deadline or feedback made unnecessary."""
    unknown: float
    """Of edits without a recorded intent; must be zero."""
    runs: int
    repeats: int
    """Runs in addition to the recorded one."""
    whole_again: float
    """Of complete runs in addition to the recorded one; the rest of the waste is incomplete runs."""

    @property
    def wasted(self) -> float:
        return self.executed - self.useful - self.on_purpose

    @property
    def share(self) -> float:
        return self.wasted / self.executed if self.executed else 0.0


def measure(evidence: Evidence, journals: Iterable[Path]) -> Waste:
    """Compare journals and logs."""
    runs = _runs(journals)
    recorded, stopped = _candidates(evidence)
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


def _runs(journals: Iterable[Path]) -> dict[CandidateKey, list[tuple[float, bool]]]:
    """By candidate: (seconds, whether it completed) of each run."""
    seconds: dict[tuple[CandidateKey, str], float] = defaultdict(float)
    whole: set[str] = set()
    for journal in journals:
        for line in journal.read_text().splitlines():
            run, seed, prompt, step, steps, step_s = line.split()
            seconds[(int(seed), prompt), run] += float(step_s)
            if step == steps:
                whole.add(run)
    found: dict[CandidateKey, list[tuple[float, bool]]] = defaultdict(list)
    for (place, run), total in seconds.items():
        found[place].append((total, run in whole))
    return found


def _candidates(evidence: Evidence) -> tuple[set[CandidateKey], set[CandidateKey]]:
    """Candidates that were recorded, and those that were started and then stopped."""
    recorded: set[CandidateKey] = set()
    begun: set[CandidateKey] = set()
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
