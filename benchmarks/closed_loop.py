"""Closed-loop benchmark: does think come closer to a target than best_of_n with the same number of edits?

Every case is a real photograph and an instruction in a user's words. An independent recipe (`benchmarks.targets`), which
the stack never sees, makes the target picture. Each strategy is requested, and its result is measured by the mean CIELAB
difference to the target. With the embedded stack, both the thinker and the editor are stand-ins without weights.

Run it from the repository's root:

    python -m benchmarks.closed_loop                                  # the embedded stack
    python -m benchmarks.closed_loop --server http://localhost:8000   # one that is running
    python -m benchmarks.closed_loop --targets-only --html targets.html
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.console import Console
from rich.progress import Progress

from benchmarks.asking import STRATEGIES, Strategy, ask
from benchmarks.cases import Case, cases
from benchmarks.report import print_report, write_sheet
from benchmarks.scoring import Trial, measure, outcomes
from benchmarks.verdict import details, headline, judge, lost
from editthinker.local import Stack

PAGE = 120
"""Columns of the tables when the output is not a terminal."""
SEED_STEP = 1000
"""The distance between seeds of sessions: within a session, seeds count upwards from its first."""


@contextmanager
def base_url(server: str | None) -> Iterator[str]:
    """The base URL of the given server, or of an embedded stack that runs for the block."""
    if server:
        yield server.rstrip("/")
        return
    with TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        yield stack.base_url


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="closed_loop", description="think against best_of_n at equal edits")
    parser.add_argument("--server", help="base URL of a running stack; without it the embedded stack is started")
    parser.add_argument("--edits", type=int, default=4, metavar="N", help="edits for best_of_n and think (4)")
    parser.add_argument("--seeds", type=int, default=1, help="sessions per case and strategy (1)")
    parser.add_argument("--limit", type=int, help="only so many cases, spread evenly over the list")
    parser.add_argument("--match", default="", help="only cases whose id matches this regular expression")
    parser.add_argument("--concurrency", type=int, default=2, help="requests at once (2)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a request may take (600)")
    parser.add_argument("--ciede2000", action="store_true", help="measure CIEDE2000 too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a contact sheet here")
    parser.add_argument("--targets-only", action="store_true", help="only the contact sheet, without requests")
    options = parser.parse_args(argv)
    if min(options.edits, options.seeds, options.concurrency) < 1 or (options.limit or 1) < 1:
        parser.error("--edits, --seeds, --limit and --concurrency start at 1")
    if options.targets_only and not options.html:
        parser.error("--targets-only needs --html")
    return options


def select_cases(match: str, limit: int | None) -> list[Case]:
    """The cases to run: matching, then thinned evenly so that every family stays."""
    matching = [case for case in cases() if re.search(match, case.id)]
    if not limit or limit >= len(matching):
        return matching
    return [matching[index * len(matching) // limit] for index in range(limit)]


def run(base: str, selected: Sequence[Case], options: argparse.Namespace) -> list[Trial]:
    """Request every case with every strategy and seed, `concurrency` at a time, in a stable order."""
    jobs = [(case, strategy, seed) for case in selected for seed in range(options.seeds) for strategy in STRATEGIES]
    limits = httpx.Limits(max_connections=options.concurrency)
    with (
        httpx.Client(base_url=base, timeout=options.timeout, limits=limits) as client,
        ThreadPoolExecutor(options.concurrency) as pool,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("requests", total=len(jobs))

        def trial(job: tuple[Case, Strategy, int]) -> Trial:
            case, strategy, seed = job
            answer = ask(client, case, strategy, options.edits, 1 + seed * SEED_STEP)
            measured = measure(case, strategy, seed, answer, ciede2000=options.ciede2000)
            progress.advance(bar)
            shown = options.html is not None and seed == 0
            return measured if shown else replace(measured, answer=replace(answer, pixels=None))

        return list(pool.map(trial, jobs))


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; the exit status is 0 when think wins significantly."""
    options = arguments(argv)
    selected = select_cases(options.match, options.limit)
    if not selected:
        sys.stderr.write("no case matches\n")
        return 2
    if options.targets_only:
        write_sheet(options.html, selected, [])
        return 0
    started = time.perf_counter()
    with base_url(options.server) as base:
        trials = run(base, selected, options)
    wall = time.perf_counter() - started
    results = outcomes(trials)
    verdict = judge(results, trials, options.edits)
    console = Console(width=None if sys.stdout.isatty() else PAGE)
    if not options.server:
        console.print("Thinker and editor are the embedded stand-ins without weights: this measures the loop, not a model.")
    print_report(console, results, verdict, options.edits)
    console.print(f"wall time {wall:.1f} s")
    line = headline(verdict, results, trials, wall) | {"edits": options.edits, "seeds": options.seeds}
    if options.json:
        losses = {f"lost_to_{name}": [one.case.id for one in lost(results, name)] for name in ("best_of_n", "source")}
        everything = line | losses | {"trials": details(trials)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if options.html:
        write_sheet(options.html, selected, trials)
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if verdict.wins else 1


if __name__ == "__main__":
    sys.exit(main())
