"""Run the honesty benchmark from the repository's root:

    python -m benchmarks.honesty                                  # every pair, on the embedded stack
    python -m benchmarks.honesty --pairs 60 --jobs 2              # a random subset, the same for the same --seed
    python -m benchmarks.honesty --server http://localhost:8000   # a stack that is running

The labels are for the embedded stand-ins, which have no weights: asked for a hat on a cat, they are right to refuse.
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
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.honesty.outcomes import ask
from benchmarks.honesty.pairs import Pair, choose, pairs
from benchmarks.honesty.sheet import TITLES, write_sheet
from benchmarks.honesty.verdict import Judged, Share, Tally, judge, tally
from editthinker import EditThinker
from editthinker.local import Stack, Timing

WIDE = 200
"""Columns of the table when the output is not a terminal."""
COLUMNS = (
    "pairs",
    "promised",
    "and kept",
    "satisfied",
    "and right",
    "falsely satisfied",
    "unchanged: told",
    "not told",
    "refused",
    "missed",
    "ruined",
    "right",
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="honesty", description="is the stack satisfied only with what is right?")
    parser.add_argument("--server", help="base URL of a running stack; without it the embedded stack is started")
    parser.add_argument("--pairs", type=int, metavar="N", help="only so many pairs, drawn at random from all kinds")
    parser.add_argument("--seed", type=int, default=1, help="of the subset and of the sessions (1)")
    parser.add_argument("--match", default="", help="only pairs whose id matches this regular expression")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="sessions at once (2)")
    parser.add_argument("--html", type=Path, default=Path("out/honesty.html"), metavar="FILE", help="the contact sheet")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome here")
    options = parser.parse_args(argv)
    if options.jobs < 1 or (options.pairs or 1) < 1:
        parser.error("--pairs and --jobs start at 1")
    return options


@contextmanager
def base_url(server: str | None) -> Iterator[str]:
    """The base URL of the given server, or of an embedded stack, which may start slowly on a busy machine."""
    if server:
        yield server.rstrip("/")
        return
    with TemporaryDirectory() as folder, Stack(Path(folder), timing=Timing(start=600.0)) as stack:
        yield stack.base_url


def run(base: str, chosen: Sequence[Pair], options: argparse.Namespace) -> list[Judged]:
    """Send every pair, `jobs` at a time, and judge each answer as it comes."""
    with (
        EditThinker(base) as client,
        ThreadPoolExecutor(options.jobs) as pool,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("pairs", total=len(chosen))

        def one(pair: Pair) -> Judged:
            judged = judge(pair, ask(client, pair, options.seed))
            progress.advance(bar)
            return judged

        return list(pool.map(one, chosen))


def table(judged: Sequence[Judged]) -> Table:
    """One row a kind, and one for all; those that are held out apart."""
    drawn = Table(title="honesty: shares of all pairs, with 95 % intervals")
    drawn.add_column("kind")
    for heading in COLUMNS:
        drawn.add_column(heading, justify="right")
    for name, held_out in (("all", False), ("all held out", True)):
        if not (group := [one for one in judged if one.pair.held_out == held_out]):
            continue
        for kind in dict.fromkeys(one.pair.kind for one in group):
            drawn.add_row(kind, *_cells(tally([one for one in group if one.pair.kind == kind])))
        drawn.add_section()
        drawn.add_row(name, *_cells(tally(group)), style="bold")
        drawn.add_section()
    return drawn


def _cells(numbers: Tally) -> list[str]:
    return [
        str(numbers.pairs),
        str(numbers.promised),
        str(Share(numbers.kept, numbers.promised)),
        str(numbers.satisfied),
        str(numbers.satisfied_right),
        str(numbers.falsely),
        str(numbers.unchanged_told),
        str(numbers.unchanged_not_told),
        str(numbers.refused_told),
        str(numbers.missed),
        str(numbers.ruined),
        str(numbers.right),
    ]


def of_satisfied(judged: Sequence[Judged]) -> Share:
    """The share of false claims among the claims."""
    return Share(sum(one.satisfied and one.name == "false" for one in judged), sum(one.satisfied for one in judged))


def record(one: Judged) -> dict[str, Any]:
    """An outcome as JSON, without its picture."""
    outcome = {name: value for name, value in asdict(one.outcome).items() if name != "pixels"}
    return {
        "id": one.pair.id,
        "photo": one.pair.photo,
        "instruction": one.pair.instruction,
        "right": sorted(one.pair.right),
        "verdict": one.name,
        "identical": one.identical,
        "readings": [str(reading) for reading in one.readings],
        "damages": list(one.damages),
        **outcome,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write the contact sheet."""
    options = arguments(argv)
    chosen = choose([pair for pair in pairs() if re.search(options.match, pair.id)], options.pairs, options.seed)
    if not chosen:
        sys.stderr.write("no pair matches\n")
        return 2
    started = time.perf_counter()
    with base_url(options.server) as base:
        judged = run(base, chosen, options)
    wall = time.perf_counter() - started
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(table(judged))
    for one in judged:
        if one.name in {"false", "error"}:
            reasons = [*one.damages, *(str(reading) for reading in one.readings if not reading.fulfilled)]
            why = "; ".join(reasons) or one.outcome.message or f"right would be: {' or '.join(sorted(one.pair.right))}"
            console.print(f"{TITLES[one.name]}: {one.pair.id} {one.pair.instruction!r}: {why}", markup=False)
    shares = [of_satisfied([one for one in judged if one.pair.held_out == held_out]) for held_out in (False, True)]
    heading = f"of those satisfied, false: {shares[0]}, held out {shares[1]}; wall time {wall:.0f} s, {options.jobs} at once"
    console.print(heading, markup=False)
    source = options.server or "the embedded stack"
    write_sheet(options.html, judged, f"{source}, seed {options.seed}; {heading}")
    console.print(f"contact sheet: {options.html} ({options.html.stat().st_size / 1e6:.1f} MB)")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(record(one), ensure_ascii=False) for one in judged]
        options.json.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
