"""Measures full-size editors on a GPU: ``python -m benchmarks.editor_gpu``.

Published architectures, random weights in bfloat16, 1024 x 1024: the plain diffusers call against ours, alone and several at
a time, compiled, cached and quantized, with the share of the device's peak. Needs torch, diffusers, transformers, accelerate,
greenlet and this repository, and downloads nothing. ``--tiny`` runs the same code on a CPU with tiny models.

How many steps a cache skips depends on the weights: with random ones, its row shows the cost of the cache and not its gain.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import diffusers
import torch

from benchmarks.editing.full_size import MODELS
from benchmarks.editing.report import number, plain_numbers, table
from benchmarks.editing.rows import Bench, Row, variants
from benchmarks.editing.work import peak_tflops
from benchmarks.midsize import quiet

_TINY_STEPS = 4
_HEADINGS = (
    "model",
    "variant",
    "steps",
    "s until all are done",
    "s an edit",
    "share of peak",
    "edits an advance",
    "linear work done",
    "differs from plain, of 255",
    "note",
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="editor_gpu", description="full-size editors with random weights on a GPU")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--steps", type=int, help="denoise steps (as published; with --tiny 4)")
    parser.add_argument("--only", default="", help="only rows whose name (as in the table) matches this regular expression")
    parser.add_argument("--repeats", type=int, default=2, help="measurements a row, after its warm-up (2)")
    parser.add_argument("--seconds", type=float, default=1500.0, help="begin no row after so long (1500)")
    parser.add_argument("--peak-tflops", type=float, help="the device's peak, dense bfloat16 (by its name)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON here")
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU: checks the code, the figures mean nothing")
    options = parser.parse_args(argv)
    if options.repeats < 1 or (options.steps or 2) < 2:
        parser.error("--repeats starts at 1, --steps at 2")
    return options


def run(options: argparse.Namespace, device: torch.device, name: str) -> list[Row]:
    """All rows, printed to stderr as they come."""
    dtype = torch.float32 if options.tiny else torch.bfloat16
    peak = options.peak_tflops or peak_tflops(name)
    ends = time.perf_counter() + options.seconds
    rows = []
    for model in (MODELS[chosen] for chosen in options.models):
        steps = options.steps or (_TINY_STEPS if options.tiny else model.steps)
        bench = Bench(model, device, dtype, options.tiny, steps, options.repeats, peak * 1e12 if peak else None)
        for variant in variants(options.tiny):
            if not re.search(options.only, variant.label) or (options.tiny and not options.only and "compile" in variant.label):
                continue
            late = time.perf_counter() > ends
            row = (
                Row(model.name, variant.label, variant.concurrency, steps, reason="out of time")
                if late
                else bench.measure(variant)
            )
            sys.stderr.write(" | ".join(line(row)) + "\n")
            rows.append(row)
        bench.drop()
    return rows


def line(row: Row) -> list[str]:
    """A row of the table."""
    share = "-" if math.isnan(row.share) else f"{row.share:.0%}"
    return [
        row.model,
        row.variant,
        str(row.steps),
        number(row.seconds, 2),
        number(row.per_edit, 2),
        share,
        number(row.batch, 2),
        number(row.done, 2),
        number(row.differs, 0),
        row.reason,
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write it as JSON if limits. A failed row gives its reason and does not fail the run."""
    options = arguments(argv)
    if not options.tiny and not torch.cuda.is_available():
        print("this benchmark needs a GPU that torch can use, and there is none; --tiny tries it out on a CPU")
        return 0
    quiet()
    device = torch.device("cpu" if options.tiny else "cuda")
    name = "a CPU, toys" if options.tiny else torch.cuda.get_device_name(device)
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    about = {"device": name, "torch": torch.__version__, "diffusers": diffusers.__version__, "date": today}
    rows = run(options, device, name)
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n")
    print(table(_HEADINGS, [line(row) for row in rows]))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        found = [plain_numbers(row) for row in rows]
        options.out.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
