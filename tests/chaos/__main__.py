"""``python -m tests.chaos --sessions 1000 --seed 7``: run by `make chaos`, and with ``--network`` by `make chaos-net`.

The exit code is 1 if a rule is violated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.checker import waits
from tests.chaos.evidence import MACHINE
from tests.chaos.fleet import Size
from tests.chaos.run import Options, Report, run

GOAL_WASTE = {False: 0.05, True: 0.03}
"""Of processes that are killed, and of networks that are disturbed."""
_MOST_SHOWN = 50
_HEX = 64
"""Length of an image's name; other files are sessions' archives."""


def figures(report: Report) -> dict[str, object]:
    """The figures of a run."""
    evidence, waste = report.evidence, report.waste
    ends = [evidence.events(name)[-1] for name in evidence.logs]
    events = [event for name in evidence.logs for event in evidence.events(name)]
    took = sorted(evidence.events(name)[-1]["at"] - evidence.events(name)[0]["at"] for name in evidence.logs) or [0.0]
    kinds = Counter(event["type"] for event in events)
    named = {event["image"]["sha256"] for event in events if event["type"] == "edited"}
    named |= {event["source"]["sha256"] for event in events if event["type"] == "session_created"}
    stored = {path.name for path in evidence.blobs.rglob("*") if path.is_file() and len(path.name) == _HEX}
    size = report.options.size
    return {
        "sessions": len(evidence.logs),
        "orchestrators": size.orchestrators,
        "editors": size.editors,
        "thinkers": size.thinkers,
        "seed": report.options.seed,
        "seconds": round(report.seconds, 1),
        "sessions_per_s": round(len(evidence.logs) / report.seconds, 2),
        "turns": kinds["turn_started"],
        "edits_recorded": kinds["edited"],
        "critiques_recorded": kinds["critiqued"],
        "attempts_failed": kinds["edit_failed"] + kinds["critique_failed"],
        "reasons": dict(Counter(str(end.get("reason")) for end in ends)),
        "seconds_p50": round(statistics.median(took), 2),
        "seconds_p95": round(took[int(0.95 * (len(took) - 1))], 2),
        "actions": sum(report.actions.values()),
        "actions_by_kind": dict(sorted(report.actions.items())),
        "died_of_poison": report.poisoned,
        "ended_by_themselves": len(report.crashes),
        **_waiting(report),
        "answers": {str(status or "none"): count for status, count in sorted(report.answers.items())},
        "listeners": sum(len(told.heard) for told in evidence.told),
        "connections": sum(heard.connections for told in evidence.told for heard in told.heard),
        "events_heard": sum(len(heard.events) for told in evidence.told for heard in told.heard),
        "images_nobody_names": len(stored - named),
        "editor_seconds": round(waste.executed, 1),
        "editor_seconds_useful": round(waste.useful, 1),
        "editor_seconds_stopped_on_purpose": round(waste.on_purpose, 1),
        "editor_seconds_wasted": round(waste.wasted, 1),
        "editor_seconds_wasted_on_whole_repeats": round(waste.whole_again, 1),
        "edits_repeated": waste.repeats,
        "wasted": round(waste.share, 4),
        "violations": len(report.violations),
    }


def _waiting(report: Report) -> dict[str, object]:
    """How much longer than their sessions callers waited; without the times at which the network was disturbed too."""
    if report.evidence.faults is None:
        return {}
    found = list(waits(report.evidence))
    longer = sorted(wait.knew - wait.end for wait in found) or [0.0]
    sound = sorted(wait.undisturbed for wait in found) or [0.0]
    stalls = [fault.ended - fault.began for fault in report.evidence.faults if fault.source == MACHINE]
    return {
        "seconds_that_the_harness_could_not_run": round(sum(stalls), 1),
        "connections_met": dict(sorted(report.met.items())),
        "answers_waited_for": len(longer),
        "waited_longer_p50": round(statistics.median(longer), 2),
        "waited_longer_p99": round(longer[int(0.99 * (len(longer) - 1))], 2),
        "waited_longer_at_most": round(longer[-1], 2),
        "waited_over_2_s": sum(seconds > report.evidence.may_wait_s for seconds in longer),
        "waited_longer_at_most_undisturbed": round(sound[-1], 2),
        "waited_over_2_s_undisturbed": sum(seconds > report.evidence.may_wait_s for seconds in sound),
    }


def show(report: Report) -> None:
    """Print a table for people and a line of JSON for programs."""
    found = figures(report)
    lines = [f"{name.replace('_', ' '):34} {value}" for name, value in found.items()]
    goal = GOAL_WASTE[report.options.network]
    lines.append(f"{'goal for wasted':34} {goal}: {'met' if report.waste.share <= goal else 'missed'}")
    lines += [f"crashed: {text}" for text in report.crashes]
    lines += [f"VIOLATION {violation}" for violation in report.violations[:_MOST_SHOWN]]
    if len(report.violations) > _MOST_SHOWN:
        lines.append(f"… and {len(report.violations) - _MOST_SHOWN} more")
    sys.stdout.write("\n".join([*lines, json.dumps(found), ""]))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--orchestrators", type=int, default=3)
    parser.add_argument("--editors", type=int, default=3)
    parser.add_argument("--thinkers", type=int, default=2)
    parser.add_argument("--open", type=int, default=80, help="live sessions at a time")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two actions; 0 for none")
    parser.add_argument("--step", type=float, default=0.04, help="seconds of one step of an edit")
    parser.add_argument("--keep", type=Path, help="a folder in which to keep logs, images and Redis's file")
    parser.add_argument("--poisoned", type=int, default=0, help="sessions that kill their drivers")
    parser.add_argument("--network", action="store_true", help="disturb connections in place of processes")
    options = parser.parse_args()
    size = Size(options.orchestrators, options.editors, options.thinkers, step_s=options.step)
    asked = Options(
        options.sessions,
        options.seed,
        size,
        options.open,
        options.every or 1.0,
        3600.0 if options.every else 0.0,
        poisoned=options.poisoned,
        network=options.network,
    )
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(run(folder, asked, _say))
        (folder / "timeline.txt").write_text("\n".join(report.timeline))
        show(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
