"""``python -m tests.attacks``: run every attack, heavy ones included, and print the table of docs/security.md.

The exit code is 1 if a check failed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.attacks import bodies, floods, heads
from tests.attacks.attack import Seen, judge
from tests.attacks.target import LARGEST, target


def row(name: str, sent: str, seen: Seen) -> str:
    """A row of the table."""
    statuses = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(seen.answers.items()))
    cells = (name, sent, statuses, f"{seen.seconds:.1f} s", f"{max(0.0, seen.mib):.0f} MiB", f"{seen.normal_s * 1000:.0f} ms")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run all attacks."""
    failed = 0
    sys.stdout.write(
        "| attack | what is sent | answers | took | memory grew by | a normal request then |\n|---|---|---|---|---|---|\n"
    )
    with tempfile.TemporaryDirectory() as folder, target(Path(folder), EDITTHINKER_MAX_IMAGE_BYTES=str(LARGEST)) as running:
        for module in (bodies, heads, floods):
            for attack in (*module.ATTACKS, *module.HEAVY):
                seen = judge(running, attack)
                sys.stdout.write(f"{row(attack.name, attack.sent, seen)}\n")
                sys.stdout.flush()
                failed += bool(seen.faults)
                for fault in seen.faults[:10]:
                    sys.stderr.write(f"{attack.name}: {fault}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
