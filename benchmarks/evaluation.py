"""``python -m benchmarks.evaluation [--items 60]``: made-up sets in the layouts of four benchmarks, two strategies, killed twice.

One command runs all of them on the embedded stack, and is killed (SIGKILL, with its stack) after a third and after two thirds of
the results. Then it goes on to the end. What is checked: every item has a result in every arm, no item has two sessions, and the
files lie where the official scripts look. The report is written to ``out/evaluation/run/report.html``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from editthinker import EditThinker
from editthinker.local import Stack
from evaluation import datasets, results
from tests.doubles.layouts import LAYOUTS

OUT: Final = Path("out/evaluation")
KINDS: Final = ("imgedit", "gedit", "risebench", "krisbench")
STRATEGIES: Final = ("single", "think")


def main() -> int:
    """Run it; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=60, help="of each benchmark")
    parser.add_argument("--side", type=int, default=128, help="pixels of a picture's longer side")
    given = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    data = {kind: LAYOUTS[kind](OUT / "data" / kind, given.items, given.side) for kind in KINDS}
    total = given.items * len(KINDS) * len(STRATEGIES)
    folder, home = OUT / "run", OUT / "home"
    words = ["eval", "run", str(folder), *(word for kind, path in data.items() for word in ("--data", f"{kind}={path}"))]
    words += [word for name in STRATEGIES for word in ("--strategy", name)]
    began = time.monotonic()
    for least in (total // 3, 2 * total // 3):
        killed_after(words, home, folder, least)
        print(f"{time.monotonic() - began:6.0f} s  killed with {len(results.read(folder))} of {total} results", flush=True)
    done = subprocess.run(command(words), env=environment(home), check=False, capture_output=True, text=True)
    print(f"{time.monotonic() - began:6.0f} s  ended with {done.returncode}: {done.stdout}", flush=True)
    faults = check(folder, home, data, total)
    subprocess.run(command(["eval", "report", str(folder)]), env=environment(home), check=True)
    print("\n".join(faults) or "as it should be")
    return int(bool(faults) or done.returncode != 0)


def command(words: list[str]) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "editthinker", *words]


def environment(home: Path) -> dict[str, str]:
    """The environment of a command whose stack has its data in a folder."""
    return {**os.environ, "EDITTHINKER_HOME": str(home.resolve())}


def killed_after(words: list[str], home: Path, folder: Path, least: int) -> None:
    """Run the command until there are so many results, and kill it."""
    pause = threading.Event()
    with subprocess.Popen(command(words), env=environment(home), stderr=subprocess.DEVNULL) as running:
        while running.poll() is None and len(results.read(folder)) < least:
            pause.wait(0.2)
        running.send_signal(signal.SIGKILL)


def check(folder: Path, home: Path, data: dict[str, Path], total: int) -> list[str]:
    """What is not as it should be."""
    rows = results.read(folder)
    statuses = Counter(row.status for row in rows)
    print(
        f"{len(rows)} rows: {dict(statuses)}; {sum(row.edits for row in rows)} edits in {len({r.session for r in rows})} sessions"
    )
    faults = [] if len(rows) == total else [f"{len(rows)} rows, and not {total}"]
    faults += [f"{row.task} failed: {row.error_message}" for row in rows if row.status == "failed"]
    with Stack(home.resolve()) as stack, EditThinker(stack.base_url) as client:
        made = Counter(tuple(sorted(session.metadata.items())) for session in client.sessions.list(limit=100))
    faults += [f"{count} sessions for {dict(names)}" for names, count in made.items() if count > 1]
    print(f"{made.total()} sessions on the server, {total - statuses['skipped']} asked for")
    if made.total() != total - statuses["skipped"]:
        faults.append("not as many sessions as items")
    for kind, path in data.items():
        dataset = datasets.load(kind, path)
        several = {item.id for item in dataset.items if len(item.sources) > 1}
        wanted = [dataset.output(item, arm) for item in dataset.items if item.id not in several for arm in STRATEGIES]
        faults += [f"{kind}: {output} is not there" for output in wanted if not (folder / kind / output).is_file()]
    return faults


if __name__ == "__main__":
    sys.exit(main())
