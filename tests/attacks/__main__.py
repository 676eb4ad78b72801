"""``python -m tests.attacks``: every attack, the heavy ones too, as the table of docs/security.md. Exit code 1 if one harms."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.attacks import bodies, floods, heads
from tests.attacks.attack import Seen, judge
from tests.attacks.place import LARGEST, place


def row(name: str, sent: str, seen: Seen) -> str:
    """A row of the table."""
    statuses = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(seen.answers.items()))
    cells = (name, sent, statuses, f"{seen.seconds:.1f} s", f"{max(0.0, seen.mib):.0f} MiB", f"{seen.normal_s * 1000:.0f} ms")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Make them all."""
    harmed = 0
    sys.stdout.write(
        "| attack | what is sent | answers | took | memory grew by | a normal request then |\n|---|---|---|---|---|---|\n"
    )
    with tempfile.TemporaryDirectory() as folder, place(Path(folder), EDITTHINKER_MAX_IMAGE_BYTES=str(LARGEST)) as running:
        for module in (bodies, heads, floods):
            for attack in (*module.ATTACKS, *module.HEAVY):
                seen = judge(running, attack)
                sys.stdout.write(f"{row(attack.name, attack.sent, seen)}\n")
                sys.stdout.flush()
                harmed += bool(seen.faults)
                for fault in seen.faults[:10]:
                    sys.stderr.write(f"{attack.name}: {fault}\n")
    return 1 if harmed else 0


if __name__ == "__main__":
    raise SystemExit(main())
