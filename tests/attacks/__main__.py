"""``python -m tests.attacks [PART]``: run every attack, heavy ones included, and print the tables of docs/security.md.

The parts: attacks on one orchestrator, scenarios of two tenants, a day in minutes, requests of two tenants that could cross, and
the memory that the worst pictures take. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.attacks import bodies, crossing, day, floods, heads, scenarios, texts, worst_pictures
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


PARTS: Final[dict[str, Callable[[], int]]] = {
    "attacks": attacks,
    "scenarios": lambda: scenarios.report(scenarios.play_all([*scenarios.WITH_KEYS, *scenarios.WITHOUT_KEYS])),
    "day": lambda: day.report(day.SECONDS),
    "crossing": lambda: crossing.report(crossing.REQUESTS),
    "pictures": worst_pictures.report,
}
"""By name; each prints its table and returns how many checks failed."""


def main() -> int:
    """Run all of them, or one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", choices=tuple(PARTS), help="only this part")
    part = parser.parse_args().part
    failed = 0
    for name, run in PARTS.items():
        if part in {None, name}:
            failed += run()
            sys.stdout.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
