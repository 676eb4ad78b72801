"""Every scenario, and how they are played: ``python -m tests.attacks.scenarios [--only WORD] [--tree FOLDER]``.

With --tree the services run from another source tree: an older one gives the figures of "before".
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.attacks import scenarios_accounts, scenarios_http, scenarios_work
from tests.attacks.arena import arena
from tests.attacks.scenario import HEADER, Played, Scenario, play, row

WITH_KEYS = sorted(
    [*scenarios_http.SCENARIOS, *scenarios_work.SCENARIOS, *scenarios_accounts.SCENARIOS], key=lambda scenario: int(scenario.row)
)
WITHOUT_KEYS = [*scenarios_work.WITHOUT_KEYS]
SETTINGS = {
    # Small, so that an attack of seconds reaches them.
    "EDITTHINKER_TENANT_STREAMS": "5",
    "EDITTHINKER_QUOTA_REDIS_BYTES": "16000000",
    "EDITTHINKER_QUOTA_BLOB_BYTES": "100000000",
}


def play_all(scenarios: Sequence[Scenario], tree: Path | None = None) -> Iterator[Played]:
    """Play them, those with keys in one arena and those without in another."""
    groups = (
        (True, [scenario for scenario in scenarios if scenario in WITH_KEYS]),
        (False, [scenario for scenario in scenarios if scenario in WITHOUT_KEYS]),
    )
    for keys, group in groups:
        if not group:
            continue
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "blobs").mkdir(mode=0o755)
            with arena(Path(folder), tree=tree, settings=SETTINGS, services=keys, keys=keys) as place:
                for scenario in group:
                    yield play(place, scenario)


def report(played: Iterator[Played]) -> int:
    """Print the table, and on stderr what failed; returns the number of scenarios that did."""
    failed = 0
    sys.stdout.write(HEADER)
    for each in played:
        sys.stdout.write(f"{row(each)}\n")
        sys.stdout.flush()
        failed += bool(each.faults)
        for fault in each.faults[:10]:
            sys.stderr.write(f"{each.scenario.row}, {each.scenario.name}: {fault}\n")
        sys.stderr.flush()
    return failed


def main() -> int:
    """Play the chosen scenarios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="play scenarios of this row, or with this word in their names")
    parser.add_argument("--tree", type=Path, help="run the services from this source tree")
    arguments = parser.parse_args()
    chosen = [
        scenario
        for scenario in (*WITH_KEYS, *WITHOUT_KEYS)
        if not arguments.only
        or arguments.only == scenario.row
        or (not arguments.only.isdigit() and arguments.only in scenario.name)
    ]
    return 1 if report(play_all(chosen, arguments.tree)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
