"""Measures full-size editors on a GPU within eight minutes: ``python -m benchmarks.editor_gpu``.

Published architectures, random weights in bfloat16: the plain diffusers call at 1024 x 1024 against our speed presets, for one
edit, four together, and eight of 512 x 512; seconds, share of the device's peak, peak memory. Rows are printed as they come, and
after ``--seconds`` the table is printed as far as it is. Needs torch, diffusers, transformers, accelerate, greenlet and this
repository, and downloads nothing. ``--dry-run`` runs the same code on a CPU with tiny models.

How many steps a cache skips depends on the weights: with random ones, turbo shows the cost of its cache and not its gain.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import diffusers
import torch

from benchmarks.editing.full_size import MODELS
from benchmarks.editing.report import number, plain_numbers, table
from benchmarks.editing.rows import Bench, Row, variants
from benchmarks.editing.work import peak_tflops
from benchmarks.midsize import quiet

_TINY_STEPS = 4
_LAST_S = 5.0
"""Kept for the table."""
_HEADINGS = (
    "model",
    "variant",
    "side",
    "steps",
    "s until all are done",
    "s an edit",
    "share of peak",
    "peak memory, GiB",
    "edits an advance",
    "differs from plain, of 255",
    "applied",
    "note",
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="editor_gpu", description="full-size editors with random weights on a GPU")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["qwen-image-2.1", "kontext"])
    parser.add_argument("--steps", type=int, help="denoise steps (as published; with --dry-run 4)")
    parser.add_argument("--only", default="", help="only rows whose name (as in the table) matches this regular expression")
    parser.add_argument("--repeats", type=int, default=1, help="measurements a row, after the warm-up (1)")
    parser.add_argument("--seconds", type=float, default=480.0, help="end after so long, with what was measured (480)")
    parser.add_argument("--ready", type=float, default=120.0, help="seconds that a preset may take to warm up (120)")
    parser.add_argument("--peak-tflops", type=float, help="the device's peak, dense bfloat16 (by its name)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON here")
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny models on the CPU: checks the code, the figures mean nothing"
    )
    options = parser.parse_args(argv)
    if options.repeats < 1 or (options.steps or 2) < 2:
        parser.error("--repeats starts at 1, --steps at 2")
    return options


def run(options: argparse.Namespace, device: torch.device, name: str, rows: list[Row]) -> None:
    """Measure all rows; each is added to ``rows``, and printed to stderr, as it comes."""
    dtype = torch.float32 if options.dry_run else torch.bfloat16
    peak = options.peak_tflops or peak_tflops(name)
    ends = time.perf_counter() + options.seconds - _LAST_S
    for model in (MODELS[chosen] for chosen in options.models):
        steps = options.steps or (_TINY_STEPS if options.dry_run else model.steps)
        flops = peak * 1e12 if peak else None
        bench = Bench(model, device, dtype, options.dry_run, steps, options.repeats, flops, options.ready)
        for variant in variants(bench.family):
            if re.search(options.only, variant.label):
                row = bench.measure(variant, ends - time.perf_counter())
                sys.stderr.write(" | ".join(line(row)) + "\n")
                rows.append(row)
        bench.drop()


def line(row: Row) -> list[str]:
    """A row of the table."""
    return [
        row.model,
        row.variant,
        str(row.side),
        str(row.steps),
        number(row.seconds, 2),
        number(row.per_edit, 2),
        "-" if math.isnan(row.share) else f"{row.share:.0%}",
        number(row.peak_bytes / 2**30, 1),
        number(row.batch, 2),
        number(row.differs, 0),
        row.applied,
        row.reason,
    ]


def main(argv: Sequence[str] | None = None, end: Callable[[int], None] = os._exit) -> int:
    """Print the table, and write it as JSON if asked to. A failed row gives its reason and does not fail the run.

    Args:
        argv: the command line.
        end: ends the process when the time is up, regardless of what is under way on the device.
    """
    options = arguments(argv)
    if not options.dry_run and not torch.cuda.is_available():
        print("this benchmark needs a GPU that torch can use, and there is none; --dry-run tries it out on a CPU")
        return 0
    quiet()
    device = torch.device("cpu" if options.dry_run else "cuda")
    name = "a CPU, toys" if options.dry_run else torch.cuda.get_device_name(device)
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    about = {"device": name, "torch": torch.__version__, "diffusers": diffusers.__version__, "date": today}
    rows: list[Row] = []

    def report() -> None:
        print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n")
        print(table(_HEADINGS, [line(row) for row in rows]), flush=True)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            found = [plain_numbers(row) for row in rows]
            options.out.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n", encoding="utf-8")

    def time_is_up() -> None:
        sys.stderr.write("the time is up\n")
        report()
        end(0)

    # A compilation or a pass cannot be interrupted.
    timer = threading.Timer(options.seconds, time_is_up)
    timer.daemon = True
    timer.start()
    run(options, device, name, rows)
    timer.cancel()
    report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
