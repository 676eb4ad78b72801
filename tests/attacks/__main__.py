"""``python -m tests.attacks``: run every attack, heavy ones included, and print the tables of docs/security.md.

Three tables: attacks on one orchestrator, scenarios of two tenants, and a day in minutes. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.attacks import bodies, day, floods, heads, scenarios, texts
from tests.attacks.attack import Seen, judge
from tests.attacks.target import LARGEST, target

HEADER = "| attack | what is sent | answers | took | memory grew by | a normal request then |\n|---|---|---|---|---|---|\n"


def row(name: str, sent: str, seen: Seen) -> str:
    """A row of the table."""
    statuses = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(seen.answers.items()))
    cells = (name, sent, statuses, f"{seen.seconds:.1f} s", f"{max(0.0, seen.mib):.0f} MiB", f"{seen.normal_s * 1000:.0f} ms")
    return f"| {' | '.join(cells)} |"


def attacks() -> int:
    """Run the attacks on one orchestrator; returns how many failed."""
    failed = 0
    sys.stdout.write(HEADER)
    with tempfile.TemporaryDirectory() as folder, target(Path(folder), EDITTHINKER_MAX_IMAGE_BYTES=str(LARGEST)) as running:
        for module in (texts, bodies, heads, floods):
            for attack in (*module.ATTACKS, *module.HEAVY):
                seen = judge(running, attack)
                sys.stdout.write(f"{row(attack.name, attack.sent, seen)}\n")
                sys.stdout.flush()
                failed += bool(seen.faults)
                for fault in seen.faults[:10]:
                    sys.stderr.write(f"{attack.name}: {fault}\n")
    return failed


def main() -> int:
    """Run all of them, or one of the three parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", choices=("attacks", "scenarios", "day"), help="only this part")
    part = parser.parse_args().part
    failed = 0
    if part in {None, "attacks"}:
        failed += attacks()
    if part in {None, "scenarios"}:
        sys.stdout.write("\n")
        failed += scenarios.report(scenarios.play_all([*scenarios.WITH_KEYS, *scenarios.WITHOUT_KEYS]))
    if part in {None, "day"}:
        sys.stdout.write("\n")
        failed += day.report(day.SECONDS)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
