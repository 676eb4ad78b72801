"""Measures continuous batching against plain diffusers: ``python -m benchmarks.editor``.

One trace of requests (mixed steps and sizes, some with a negative prompt, some of one picture, some cancelled) goes to three
servers in this process, all with the same mid-sized Kontext of random weights on the CPU: the plain pipeline behind a lock,
the plain pipeline taking equal requests as a list, and ours. Then short edits arrive behind long ones. Every picture of ours
is compared with the plain pipeline's; the exit status is 1 if one differs by more than 1 of 255.

``--overlap 5`` compares workers with text encoders and VAE on a thread of their own and without, in five rounds of each in turn.
``--starts 8`` starts one worker eight times instead, with a tiny FLUX.2 [klein], and prints how far its throughput differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from benchmarks.editing import overlap, report, starts
from benchmarks.editing.load import replay
from benchmarks.editing.plain import Plain
from benchmarks.editing.servers import Interleaved, Lists, Record, Server
from benchmarks.editing.trace import SHORT, SIZES, STEPS, Request, burst, mixed, rehearsal
from benchmarks.midsize import kontext, quiet
from tests.tiny import BUILDERS

MAX_LIST = 8
LOCK, LISTS, OURS = "behind a lock", "equal ones as a list", "ours"
UNCACHED, IN_ORDER = "ours, without encoder cache", "ours, in order of arrival"
TOLERANCE = 1
_LIMIT_S = 120.0  # for what is left after the last event of a trace


@dataclass(frozen=True, slots=True)
class Known:
    """The plain pipeline's results for a trace: each request's picture, and its seconds alone."""

    pictures: Mapping[int, Image.Image]
    solo_s: Mapping[int, float]

    @property
    def mean_s(self) -> float:
        """Mean duration of an edit alone."""
        return sum(self.solo_s.values()) / len(self.solo_s)


def alone(plain: Plain, requests: Sequence[Request]) -> Known:
    """Each request, one after another, on the plain pipeline."""
    for request in rehearsal(requests):
        plain.edit([request])
    made = {request.number: plain.timed(request) for request in requests}
    return Known({number: one[0] for number, one in made.items()}, {number: one[1] for number, one in made.items()})


def servers(pipe: Any, plain: Plain, *, variants: bool) -> dict[str, Callable[[], Server]]:
    """The servers to compare, by name; each is made when it is measured, so that it runs alone."""
    made: dict[str, Callable[[], Server]] = {
        LOCK: lambda: Lists(plain, 1),
        LISTS: lambda: Lists(plain, MAX_LIST),
        OURS: lambda: Interleaved(pipe),
    }
    if variants:
        made[UNCACHED] = lambda: Interleaved(pipe, cache=False)
        made[IN_ORDER] = lambda: Interleaved(pipe, in_order=True)
    return made


@dataclass(frozen=True, slots=True)
class Served:
    """A server's run: records of each trace, CPU seconds of the first, and a note."""

    records: Sequence[list[Record]]
    cpu_s: float
    note: str


def serve(make: Callable[[], Server], traces: Sequence[Sequence[Request]], unit_s: float) -> Served:
    """Send the traces to a new, warmed-up server."""
    server = make()
    try:
        replay(server, rehearsal([request for trace in traces for request in trace]), 0.0, _LIMIT_S)
        before = time.process_time()
        records = [replay(server, traces[0], unit_s, _LIMIT_S)]
        cpu_s = time.process_time() - before
        records += [replay(server, trace, unit_s, _LIMIT_S) for trace in traces[1:]]
    finally:
        server.stop()
    return Served(records, cpu_s, server.note if isinstance(server, Interleaved) else "")


def call_s(plain: Plain, size: tuple[int, int]) -> float:
    """Seconds of one call of the denoiser, from the cost of additional steps, without encoding and decoding."""
    request = Request(0, 0.0, 2, size, 3.5, negative=False, source=0, prompt="calibrate")
    few, many = (min(plain.timed(replace(request, steps=steps))[1] for _ in range(2)) for steps in (2, 10))
    return (many - few) / 8


def reference_s(plain: Plain) -> float:
    """Seconds of a short edit alone, now: shows whether other load on the machine differs between the servers."""
    request = Request(0, 0.0, SHORT, SIZES[0], 3.5, negative=False, source=0, prompt="calibrate")
    return min(plain.timed(request)[1] for _ in range(2))


def sensitivity(plain: Plain, requests: Sequence[Request], known: Known) -> int:
    """The change of a picture with its prompt alone: the scale for the comparison of pictures."""
    request = requests[0]
    (other,) = plain.edit([replace(request, prompt="something else")])
    return report.difference(other, known.pictures[request.number])


def short_ones(runs: Mapping[str, Sequence[Record]]) -> str:
    """A table of the burst: latencies of the short edits, and of the long ones before them."""
    rows = []
    for name, records in runs.items():
        short = [report.latency(record) for record in records if record.request.steps == SHORT]
        long = [report.latency(record) for record in records if record.request.steps != SHORT]
        values = (report.percentile(short, 0.5), max(short), report.percentile(long, 0.5), max(long))
        rows.append([name, *(report.number(value, 2) for value in values)])
    return report.table(["burst", "short, p50, s", "short, longest, s", "long, p50, s", "long, longest, s"], rows)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="editor", description="interleaved edits against plain ways to serve")
    parser.add_argument("--quick", action="store_true", help="few requests, and only the three servers: under a minute")
    parser.add_argument("--requests", type=int, help="requests in the trace (44; quick: 5)")
    parser.add_argument("--seconds", type=float, default=60.0, help="leave out requests that arrive later than this (60)")
    parser.add_argument("--load", type=float, default=1.0, help="work that arrives, as a share of what the lock can do (1.0)")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--starts", type=int, default=0, help="only start a worker so many times, and compare the starts")
    parser.add_argument("--overlap", type=int, default=0, help="only compare encoders on a thread of their own, so many rounds")
    parser.add_argument("--steps", type=int, default=8, help="steps of an edit, with --starts and --overlap (8)")
    parser.add_argument("--threads", type=int, help="torch's threads (as many as it chooses)")
    options = parser.parse_args(argv)
    options.requests = options.requests or (5 if options.quick else 44)
    if min(options.starts, options.overlap) < 0 or options.steps < 1:
        parser.error("--starts, --overlap and --steps are above 0")
    if options.requests < 1 or options.load <= 0 or options.seconds <= 0:
        parser.error("--requests, --load and --seconds are above 0")
    return options


def run(options: argparse.Namespace) -> tuple[dict[str, report.Figures], int]:
    """Measure and print; the figures, and the largest difference of a picture of ours."""
    quiet()
    pipe = kontext()
    plain = Plain(pipe)
    trace, rush = mixed(options.seed, options.requests), burst(*((2, 2) if options.quick else (3, 6)))
    known, known_rush = alone(plain, trace), alone(plain, rush)
    unit_s = known.mean_s / options.load
    trace = [request for request in trace if request.at * unit_s <= options.seconds]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {options.load:g}, seed {options.seed}")
    for size in SIZES:
        print(f"one call at {size[0]}x{size[1]}: {1000 * call_s(plain, size):.0f} ms")
    print(f"{len(trace)} requests of {STEPS} steps, {known.mean_s:.2f} s each alone; a picture changes by")
    print(f"{sensitivity(plain, trace, known)} of 255 with its prompt\n")
    results: dict[str, report.Figures] = {}
    rushes: dict[str, list[Record]] = {}
    paces: list[str] = []
    notes, worst = [], 0
    for name, make in servers(pipe, plain, variants=not options.quick).items():
        before = reference_s(plain)
        served = serve(make, [trace, rush], unit_s)
        paces.append(f"{name} {before:.2f} and {reference_s(plain):.2f}")
        rushes[name] = served.records[1]
        results[name] = report.figures(served.records[0], known.solo_s, known.pictures, served.cpu_s)
        if served.note:
            in_rush = report.figures(rushes[name], known_rush.solo_s, known_rush.pictures)
            worst = max(worst, results[name].worst, in_rush.worst)
            notes.append(f"{name}: {served.note}")
    print(report.comparison(results, OURS), short_ones(rushes), *notes, sep="\n\n")
    print(f"\na {SHORT}-step edit alone took, just before and after each server, in s: {'; '.join(paces)}")
    print("(where these differ, other work on the machine was in the way, and only processor seconds can be compared)")
    return results, worst


def compare_starts(number: int, steps: int) -> str:
    """Start one worker so many times; the table of all starts."""
    quiet()
    pipe = BUILDERS["flux2-klein"]()
    made = []
    for index in range(number):
        runs, model = starts.start(pipe, steps)
        print(f"start {index + 1}: {model}", flush=True)
        made.append(runs)
    return starts.table(made)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; the last line is one JSON object."""
    started = time.perf_counter()
    options = arguments(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.starts:
        print(compare_starts(options.starts, options.steps))
        print(f"\nwall time {time.perf_counter() - started:.0f} s")
        return 0
    if options.overlap:
        quiet()
        table, equal = overlap.compare(BUILDERS["flux2-klein"](), options.overlap, options.steps)
        print(f"{table}\n\npictures are {'equal' if equal else 'NOT equal'}; wall time {time.perf_counter() - started:.0f} s")
        return 0 if equal else 1
    results, worst = run(options)
    right = worst <= TOLERANCE
    print(f"\npictures of ours differ from the plain pipeline's by at most {worst} of 255{'' if right else ': WRONG'}")
    print(f"wall time {time.perf_counter() - started:.0f} s")
    print(json.dumps({name: report.plain_numbers(one) for name, one in results.items()}))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
