"""The editor's benchmarks: their load, their arithmetic, and and the GPU benchmark with tiny models."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("diffusers")

from benchmarks import editor_gpu
from benchmarks.editing import report, starts
from benchmarks.editing.load import replay
from benchmarks.editing.rows import Bench, Row, Variant
from benchmarks.editing.servers import Record
from benchmarks.editing.trace import LONG, SHORT, Request, burst, mixed, rehearsal


def test_a_seed_is_a_trace_and_another_seed_is_another() -> None:
    assert mixed(3, 40) == mixed(3, 40)
    assert mixed(3, 40) != mixed(4, 40)
    assert mixed(3, 40)[:20] == mixed(3, 20)


def test_a_trace_is_bounded_and_as_heavy_as_it_says() -> None:
    for seed in range(5):
        trace = mixed(seed, 200)
        assert [request.number for request in trace] == list(range(200))
        assert all(request.calls <= 2 * LONG for request in trace)
        assert all(later.at >= earlier.at for earlier, later in pairwise(trace))
        assert trace[-1].at == pytest.approx(200, rel=0.25)
        assert all(request.patience is None or 0 <= request.patience <= 3 for request in trace)


def test_a_trace_has_everything_in_it() -> None:
    trace = mixed(1, 200)
    assert {request.negative for request in trace} == {True, False}
    assert len({request.size for request in trace}) == 3
    assert {request.steps for request in trace} >= {SHORT, LONG}
    assert 0.1 < sum(request.patience is not None for request in trace) / 200 < 0.3
    together = [(one, other) for one, other in pairwise(trace) if one.source == other.source]
    assert together and all(one.at == other.at and one.prompt != other.prompt for one, other in together)
    assert len(rehearsal(trace)) == 6


def test_a_burst_is_long_ones_and_then_short_ones() -> None:
    assert [request.steps for request in burst(2, 3)] == [LONG, LONG, SHORT, SHORT, SHORT]
    assert all(request.at > 0 for request in burst(2, 3)[2:])


def test_percentiles_lie_between_neighbours() -> None:
    assert report.percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert report.percentile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert math.isnan(report.percentile([], 0.5))


def _request(number: int, patience: float | None = None) -> Request:
    return Request(number, 0.0, 4, (8, 8), 3.5, negative=False, source=0, prompt="", patience=patience)


def _run(seconds: tuple[float, float], shade: int = 10) -> report.Figures:
    """Two good requests of one second alone; one cancelled in work, one while it waits, one too late."""
    grey, made = Image.new("RGB", (8, 8), (10, 10, 10)), Image.new("RGB", (8, 8), (10, shade, 10))
    records = [
        *(Record(_request(number), 100.0, made, 100.0 + took, calls=4) for number, took in enumerate(seconds)),
        Record(_request(2, 1.0), 100.0, left=101.0, released=101.25, calls=3),
        Record(_request(3, 1.0), 100.0, left=101.0, released=101.0),
        Record(_request(4, 9.0), 100.0, grey, 102.0, calls=4),
    ]
    return report.figures(records, dict.fromkeys(range(5), 1.0), dict.fromkeys(range(5), grey), cpu_s=3.0)


def test_figures_of_a_run_made_by_hand() -> None:
    figures = _run((2.0, 4.0), shade=12)
    assert replace(figures, p95_s=round(figures.p95_s, 6)) == report.Figures(
        good=2,
        per_minute=30.0,
        p50_s=3.0,
        p95_s=3.9,
        most_s=4.0,
        cpu_s=1.5,
        slowdown=3.0,
        early=1,
        wasted_calls=3,
        release_p50_s=0.25,
        release_max_s=0.25,
        worst=2,
    )


def test_a_good_request_that_was_never_answered_is_an_error() -> None:
    with pytest.raises(AssertionError, match="never answered"):
        report.figures([Record(_request(0), 0.0)], {0: 1.0}, {})


def test_ratios_above_one_say_that_ours_is_better() -> None:
    lines = report.comparison({"lock": _run((4.0, 8.0)), "ours": _run((2.0, 4.0))}, "ours").splitlines()
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in (line.split("|") for line in lines)}
    assert rows[""] == ["lock", "ours", "ours against lock"]
    assert rows["good edits a minute"] == ["15.0", "30.0", "2.00x"]
    assert rows["p50 latency, s"] == ["6.00", "3.00", "2.00x"]
    assert rows["good edits"] == ["2", "2", ""]


def test_pictures_of_different_sizes_differ() -> None:
    small = Image.new("RGB", (4, 4))
    assert report.difference(small, small) == 0
    assert report.difference(small, Image.new("RGB", (8, 8))) == 255


class Memo:
    """A server that writes down what it is told, and answers at once if asked to."""

    def __init__(self, *, concurrency: bool) -> None:
        self.told: list[tuple[str, int]] = []
        self._at_once = concurrency

    def submit(self, record: Record) -> None:
        self.told.append(("submit", record.request.number))
        record.done = record.arrived if self._at_once else None

    def cancel(self, record: Record) -> None:
        self.told.append(("cancel", record.request.number))

    def settle(self, limit_s: float) -> None:
        self.told.append(("settle", round(limit_s)))

    def stop(self) -> None:
        raise NotImplementedError


def test_callers_leave_after_they_came_and_only_if_they_still_wait() -> None:
    trace = [_request(0), _request(1, 0.0), _request(2, 2.0)]
    slow, fast = Memo(concurrency=False), Memo(concurrency=True)
    replay(slow, trace, 0.01, 5.0)
    assert slow.told == [("submit", 0), ("submit", 1), ("cancel", 1), ("submit", 2), ("cancel", 2), ("settle", 5)]
    replay(fast, trace, 0.01, 5.0)
    assert fast.told == [("submit", 0), ("submit", 1), ("submit", 2), ("settle", 5)]


def test_starts_are_compared_by_their_throughput() -> None:
    runs = [
        dict.fromkeys(starts.MIXES, starts.Run(8, seconds, 4.0, calls)) for seconds, calls in ((4.0, 1.0), (4.0, 2.5), (8.0, 2.0))
    ]
    row = starts.table(runs).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["64", "2.00", "50%", "2.00", "0%", "1.00 to 2.50"]


def test_the_gpu_benchmark_runs_dry_with_toys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain diffusers and one preset of each model; what a device lacks is said in the row."""
    out = tmp_path / "gpu.json"
    only = ["--only", "^(plain|exact x1|fast x8 half)$", "--steps", "4", "--peak-tflops", "1", "--out", str(out)]
    assert editor_gpu.main(["--dry-run", *only]) == 0
    rows = {(row["model"], row["variant"]): row for row in json.loads(out.read_text())["rows"]}
    for model in ("qwen-image-2.1", "kontext"):
        plain, exact, fast = (rows[model, variant] for variant in ("plain", "exact x1", "fast x8 half"))
        assert [row["reason"] for row in (plain, exact, fast)] == [""] * 3
        assert plain["seconds"] > 0 and 0 < plain["share"] < 1 and plain["batch"] is None
        assert exact["differs"] == 0 and exact["applied"] == ""
        assert (fast["concurrency"], fast["side"], fast["steps"], fast["applied"]) == (8, 32, 2, "attention native")
        assert fast["per_edit"] == pytest.approx(fast["seconds"] / 8)
    assert "| kontext | exact x1 | 64 | 4 |" in capsys.readouterr().out


def test_the_gpu_benchmark_begins_no_row_that_it_cannot_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert editor_gpu.main(["--dry-run", "--models", "kontext", "--only", "plain", "--seconds", "5"]) == 0
    assert "out of time" in capsys.readouterr().out


def test_the_gpu_benchmark_reports_what_it_has_when_the_time_is_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even in the middle of a row that does not end."""
    ended = threading.Event()

    def stuck(_: object, variant: Variant, __: float) -> Row:
        assert ended.wait(60)
        return Row("kontext", variant.label, 1, 1, 1)

    monkeypatch.setattr(Bench, "measure", stuck)
    only = ["--models", "kontext", "--only", "plain", "--seconds", "0.1"]
    assert editor_gpu.main(["--dry-run", *only], end=lambda _: ended.set()) == 0
    assert "the time is up" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert editor_gpu.main([]) == 0
    assert "needs a GPU" in capsys.readouterr().out
