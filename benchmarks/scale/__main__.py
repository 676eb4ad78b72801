"""Load and scaling of the stack: ``python -m benchmarks.scale [load] [workers] [listeners] [replicas] [reference] [--quick]``.

One process has stub editors that take 1 to 8 s an edit (log-normal, drawn from the text of the request, so that the same work
takes the same time in every run) and a stub thinker that takes 0.3 to 1 s. HAProxy, Valkey and the orchestrator's replicas are
real, over HTTP. Goodput comes from the workers' journal: slot-seconds of edits that were delivered, each counted once, divided by
all slot-seconds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console

from benchmarks.scale import against, pool, replica
from benchmarks.scale.pool import Lengths
from benchmarks.scale.report import Figure, print_report


def main() -> int:
    """Run the rows; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__.partition("\n\n")[0] if __doc__ else ""
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="load, workers, listeners, replicas, reference (all)")
    parser.add_argument("--quick", action="store_true", help="shorter and smaller: a check, not a measurement")
    options = parser.parse_args()
    lengths = Lengths(4.0, 8.0) if options.quick else Lengths()
    every: dict[str, Callable[[], Iterator[Figure]]] = {
        "load": lambda: pool.load(lengths),
        "workers": lambda: pool.workers(lengths),
        "listeners": lambda: replica.listeners(500 if options.quick else 10_000, lengths),
        "replicas": lambda: replica.replicas(lengths),
        "reference": lambda: against.reference(8 if options.quick else 20),
    }
    if unknown := set(options.rows) - set(every):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    # Ten thousand streams need as many open files; the replica inherits the limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures, progress, began = list[Figure](), Console(file=sys.stderr), time.monotonic()
    for name in options.rows or every:
        for figure in every[name]():
            figures.append(figure)
            progress.print(f"{time.monotonic() - began:4.0f} s  {figure.row}  {figure.name}: {figure.shown}  {figure.reference}")
    print_report(figures, "quick, not a measurement" if options.quick else "real latencies (edits 1-8 s, critiques 0.3-1 s)")
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())
