"""Closed-loop benchmark: which strategy comes closest to a target with the same editor seconds?

Every case is a real photograph and an instruction in a user's words. An independent recipe (`benchmarks.targets`), which
the stack never sees, makes the target picture. Each strategy is requested, and its result is measured by the mean CIELAB
difference to the target. With the embedded stack, both the thinker and the editor are stand-ins without weights. Every strategy
but single makes the same number of edits, all of one size; with `--stopping` sessions end by the server's rules before that.

Run it from the repository's root:

    python -m benchmarks.closed_loop                                  # the embedded stack
    python -m benchmarks.closed_loop --noise 1 --concurrency 1        # its judge's scores have a deviation of one point
    python -m benchmarks.closed_loop --noise 1 --stopping             # and sessions stop by themselves
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

from benchmarks.asking import STRATEGIES, Strategy, ask, form
from benchmarks.cases import Case, cases
from benchmarks.noisy_judge import noisy_plan
from benchmarks.report import print_report, write_sheet
from benchmarks.scoring import Trial, measure, outcomes
from benchmarks.verdict import details, headline, judge, lost
from editthinker.local import Stack
from editthinker.local.stack import embedded_plan
from editthinker.local.supervisor import Timing

PAGE = 120
"""Columns of the tables when the output is not a terminal."""
COMPARED: frozenset[Strategy] = frozenset({"single", "best_of_n", "think"})
"""Strategies without which there is no verdict."""
STARTING_S = 600.0
"""Seconds in which the stack must be ready: a benchmark may wait on a busy machine."""
SEED_STEP = 1000
"""The distance between seeds of sessions: within a session, seeds count upwards from its first."""


@contextmanager
def base_url(server: str | None, noise: float = 0.0, noise_seed: int = 1) -> Iterator[str]:
    """The base URL of the given server, or of an embedded stack that runs for the block, with a judge of this noise."""
    if server:
        yield server.rstrip("/")
        return
    planner = noisy_plan(noise, noise_seed) if noise else embedded_plan
    with TemporaryDirectory() as folder, Stack(Path(folder), planner=planner, timing=Timing(start=STARTING_S)) as stack:
        yield stack.base_url


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="closed_loop", description="strategies side by side at equal edits")
    parser.add_argument("--server", help="base URL of a running stack; without it the embedded stack is started")
    parser.add_argument("--edits", type=int, default=4, metavar="N", help="edits of every strategy but single (4)")
    parser.add_argument("--strategy", nargs="*", default=STRATEGIES, choices=STRATEGIES, help="strategies (all)")
    parser.add_argument("--stopping", action="store_true", help="sessions stop by the server's rules, after --edits at most")
    parser.add_argument("--noise", type=float, default=0.0, metavar="N", help="deviation of the judge's scores, of 10 (0)")
    parser.add_argument("--noise-seed", type=int, default=1, help="seed of that noise; exact with --concurrency 1 (1)")
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
    if missing := COMPARED.difference(options.strategy):
        parser.error(f"--strategy needs {', '.join(sorted(missing))}, too")
    if options.server and options.noise:
        parser.error("--noise is of the embedded stack; put benchmarks.noisy_judge in front of that server's thinker")
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
    seeds, chosen = range(options.seeds), [strategy for strategy in STRATEGIES if strategy in options.strategy]
    jobs = [(case, strategy, seed) for case in selected for seed in seeds for strategy in chosen]
    limits = httpx.Limits(max_connections=options.concurrency)
    with (
        httpx.Client(base_url=base, timeout=options.timeout, limits=limits) as client,
        ThreadPoolExecutor(options.concurrency) as pool,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("requests", total=len(jobs))

        def trial(job: tuple[Case, Strategy, int]) -> Trial:
            case, strategy, seed = job
            fields = form(strategy, options.edits, 1 + seed * SEED_STEP, stopping=options.stopping)
            # A session that ends for lack of time on a busy machine would not be of its strategy.
            answer = ask(client, case, fields | {"deadline_s": f"{options.timeout:g}"})
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
    with base_url(options.server, options.noise, options.noise_seed) as base:
        trials = run(base, selected, options)
    wall = time.perf_counter() - started
    results = outcomes(trials)
    verdict = judge(results, trials, options.edits)
    console = Console(width=None if sys.stdout.isatty() else PAGE)
    if not options.server:
        console.print("Thinker and editor are the embedded stand-ins without weights: this measures the loop, not a model.")
    print_report(console, results, trials, verdict, options.edits)
    console.print(f"wall time {wall:.1f} s")
    given = {name: getattr(options, name) for name in ("edits", "seeds", "noise", "noise_seed", "stopping")}
    line = headline(verdict, results, trials, wall) | given
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
