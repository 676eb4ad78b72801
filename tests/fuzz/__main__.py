"""``python -m tests.fuzz [--edits N] [--seed N] [FAMILY …]``: fuzzed edits over all families, with random weights.

Prints a row a family, and every fault. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time

import torch

from tests.fuzz.families import NAMES, fuzz


def main() -> int:
    """Run them, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(NAMES)}; all if none")
    parser.add_argument("--edits", type=int, default=10_000, help="requests in all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    names = arguments.families or NAMES
    sys.stdout.write("| family | requests | answers | compared | memory grew by | seconds |\n|---|---|---|---|---|---|\n")
    faults = 0
    for place, name in enumerate(names):
        edits = arguments.edits // len(names) + (place < arguments.edits % len(names))
        start = time.perf_counter()
        report = asyncio.run(fuzz(name, edits=edits, seed=arguments.seed + place))
        answers = ", ".join(f"{count} {answer}" for answer, count in sorted(report.answers.items()))
        cells = (name, edits, answers, report.compared, f"{report.growth / 2**20:.0f} MiB", f"{time.perf_counter() - start:.0f}")
        sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
        sys.stdout.flush()
        faults += len(report.faults)
        for fault in report.faults[:20]:
            sys.stderr.write(f"{name}: {fault[:1500]}\n")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
