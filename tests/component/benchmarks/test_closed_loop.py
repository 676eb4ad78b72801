"""The closed-loop benchmark against a server made of a few lines."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from benchmarks import closed_loop
from benchmarks.asking import STRATEGIES, form
from benchmarks.cases import cases
from benchmarks.photos import photo
from benchmarks.scoring import Outcome, bootstrap, duel, summary
from benchmarks.targets import target


def _part(body: bytes, name: str) -> bytes:
    """A field of a multipart body, without a library."""
    head = body.index(f'name="{name}"'.encode())
    start = body.index(b"\r\n\r\n", head) + 4
    return body[start : body.index(b"\r\n--", start)]


class Stand(BaseHTTPRequestHandler):
    """Answers with part of the way to the target: most with the strategy named `best`, at twice the size."""

    best = "think"
    spend = 0
    refused = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        strategy, prompt = _part(body, "strategy").decode(), _part(body, "prompt").decode()
        case = next(case for case in cases() if case.instruction == prompt)
        if case.recipe == self.refused:
            self._send(400, {"error": {"message": "the editor does not do this", "code": "editor_refused"}})
            return
        share = 0.8 if strategy == self.best else 0.3
        mixed = photo(case.photo).pixels * (1 - share) + target(case.photo, case.recipe) * share
        large = cv2.resize(mixed.astype(np.uint8), None, fx=2, fy=2)
        png = cv2.imencode(".png", np.ascontiguousarray(large[..., ::-1]))[1].tobytes()
        turns, made = int(_part(body, "max_turns")), int(_part(body, "max_turns")) * int(_part(body, "candidates"))
        reply = {
            "data": [{"b64_json": base64.b64encode(png).decode()}],
            "scores": {"semantic": 7, "quality": 8, "overall": 7.5},
            "turns": turns,
            "edits": made + self.spend,
            "finish_reason": "max_turns",
            "session_id": "s",
            "totals": {"editor_seconds": 2.0, "thinker_seconds": 1.0},
        }
        self._send(200, reply)

    def _send(self, status: int, reply: dict[str, object]) -> None:
        raw = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Stand, "best", "think")
    monkeypatch.setattr(Stand, "spend", 0)
    monkeypatch.setattr(Stand, "refused", "")
    with ThreadingHTTPServer(("127.0.0.1", 0), Stand) as stand:
        thread = Thread(target=stand.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{stand.server_address[1]}"
        stand.shutdown()
        thread.join()


def test_think_wins_and_everything_is_reported(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "out.json", tmp_path / "deep" / "sheet.html"
    argv = ["--server", server, "--limit", "4", "--json", str(out), "--html", str(sheet), "--ciede2000"]
    assert closed_loop.main(argv) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["think_wins"] is True
    assert line["cases"] == 4
    assert line["wins_ties_losses"] == [4, 0, 0]
    assert line["totals"]["source"]["ratio"] == 1
    assert line["totals"]["think"]["ratio"] < 0.6 < line["totals"]["best_of_n"]["ratio"] < 1
    assert line["mean_edits"] == {"single": 1, "best_of_n": 4, "think": 4, "think_best_of_n": 4, "adaptive": 4}
    assert line["costs"]["think"] == {"edits": 4, "editor_seconds": 2, "thinker_seconds": 1, "satisfied": 0}
    assert line["below_single"] == []
    assert line["ciede2000"]["think"] < line["ciede2000"]["best_of_n"]
    assert len(json.loads(out.read_text(encoding="utf-8"))["trials"]) == 20
    assert sheet.read_text(encoding="utf-8").count("<img") == 4 * 7


def test_losing_fails_and_names_the_cases(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Stand, "best", "best_of_n")
    assert closed_loop.main(["--server", server, "--limit", "3"]) == 1
    printed = capsys.readouterr().out
    assert "think loses against best_of_n (3)" in printed
    assert json.loads(printed.splitlines()[-1])["think_wins"] is False


def test_more_edits_than_allowed_void_a_win(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stand, "spend", 1)
    assert closed_loop.main(["--server", server, "--limit", "3"]) == 1


def test_a_server_that_fails_counts_as_doing_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert closed_loop.main(["--server", "http://127.0.0.1:9", "--limit", "1"]) == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["errors"] == 5
    assert line["totals"]["think"]["ratio"] == 1


def test_what_the_editor_refuses_is_an_answer_and_no_failure(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded editor refuses a fifth of the cases; each counts as the untouched source, once for all strategies."""
    first = closed_loop.select_cases(".", 4)[0]
    monkeypatch.setattr(Stand, "refused", first.recipe)
    assert closed_loop.main(["--server", server, "--limit", "4"]) == 0
    printed = capsys.readouterr().out
    line = json.loads(printed.splitlines()[-1])
    assert (line["refused"], line["errors"], line["think_wins"]) == (1, 0, True)
    assert line["against_doing_nothing"] == [3, 1, 0]
    assert printed.count("the editor does not do this") == 1


def test_think_below_single_in_a_group_voids_a_win(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Stand, "best", "single")
    argv = ["--server", server, "--match", "^pastel/", "--strategy", "single", "best_of_n", "think"]
    assert closed_loop.main(argv) == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["below_single"] == ["mood and grade"]
    assert line["think_minus_single"]["mood and grade"]["mean"] > 0


def test_strategies_without_a_verdict_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        closed_loop.main(["--strategy", "think"])
    assert "needs best_of_n, single, too" in capsys.readouterr().err


def test_targets_only_needs_no_server(tmp_path: Path) -> None:
    sheet = tmp_path / "targets.html"
    assert closed_loop.main(["--targets-only", "--html", str(sheet), "--match", "^pastel/"]) == 0
    assert sheet.read_text(encoding="utf-8").count("<img") == 4


def test_strategies_get_equal_edits() -> None:
    for strategy, edits in (("best_of_n", 4), ("think", 4), ("single", 1), ("think_best_of_n", 4), ("adaptive", 4)):
        fields = form(strategy, 4, seed=7)  # type: ignore[arg-type]
        assert int(fields["max_turns"]) * int(fields["candidates"]) == edits
        assert int(fields["patience"]) >= int(fields["max_turns"])


def test_a_session_that_stops_by_itself_has_the_rules_of_the_server_and_the_same_budget() -> None:
    fields = [form(strategy, 4, seed=7, stopping=True) for strategy in STRATEGIES]
    assert {each["budget_edits"] for each in fields} == {"4"}
    assert not any(name in each for each in fields for name in ("semantic_threshold", "quality_threshold", "patience"))


def test_limit_spreads_over_the_families() -> None:
    few = closed_loop.select_cases("", 12)
    assert len({case.id for case in few}) == 12
    assert len({case.family for case in few}) == 4


def test_bootstrap_is_wider_over_recipes_that_agree() -> None:
    gaps = np.repeat(np.random.default_rng(5).normal(-1, 1, size=12), 6)
    over_cases = bootstrap(gaps)
    over_recipes = bootstrap(gaps, [str(index // 6) for index in range(72)])
    assert over_cases.mean == over_recipes.mean
    assert over_recipes.high - over_recipes.low > 1.5 * (over_cases.high - over_cases.low)


def test_summary_and_duel_count_by_the_rule() -> None:
    case = cases()[0]
    results = [
        Outcome(case, 20.0, {"source": 20.0, "think": 10.0, "best_of_n": 12.0}),
        Outcome(case, 20.0, {"source": 20.0, "think": 14.0, "best_of_n": 14.01}),
        Outcome(case, 20.0, {"source": 20.0, "think": 22.0, "best_of_n": 12.0}),
    ]
    assert duel(results, "think", "best_of_n") == (1, 1, 1)
    assert summary(results, "think")["success_0.5"] == pytest.approx(1 / 3)
    assert summary(results, "think")["success_0.75"] == pytest.approx(2 / 3)
    assert summary(results, "best_of_n")["success_0.6"] == pytest.approx(2 / 3)
