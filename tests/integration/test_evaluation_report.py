"""The report of a run: its numbers, its page in a browser, and what hostile texts cannot do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe

from evaluation import datasets, results, running
from evaluation.report import model, page, tables
from tests.doubles.chromium import chromium
from tests.doubles.runs import made_run
from tests.integration.test_cli_commands import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("run"), ["imgedit", "own"], 20)


def built(folder: Path, baseline: str | None = None) -> tuple[model.Report, str]:
    opened = datasets.reopen(running.manifest(folder))
    report = model.build(folder, opened, results.read(folder), baseline)
    return report, page.render(report, opened)


def test_the_command_writes_the_page_and_the_tables(folder: Path) -> None:
    done = run("eval", "report", folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"think: 7\.\d\d, \+1\.\d\d \(\+\d\.\d\d to \+\d\.\d\d\), \d\.\d\d edits", done.stdout)
    assert pq.read_table(folder / "results.parquet").num_rows == 80
    scores = pq.read_table(folder / "scores.parquet").to_pylist()
    assert len(scores) == 80 * 3 and scores[0].keys() == {"dataset", "judge", "arm", "item", "group", "metric", "value"}
    assert json.loads((folder / "results.jsonl").read_text().splitlines()[0])["arm"] == "single"
    numbers = json.loads(run("eval", "report", folder, "--json").stdout)
    assert numbers["baseline"] == "single" and len(numbers["sections"]) == 2


def test_the_page_says_whether_it_paid_where_and_at_what_cost(folder: Path) -> None:
    report, text = built(folder)
    assert "<h1>think paid everywhere</h1>" in text
    assert re.search(r"It took <b>2\.\d edits an\u00a0item</b> instead of 1\.0", text)
    assert re.search(r"\d\.\d \u00d7 the edits, \d+\.\d\u00a0s instead of \d+\.\d\u00a0s an\u00a0item", text)
    assert text.count("<h3>Where</h3>") == 1, "own pictures are one group"
    assert "Largest gains" in text
    wins = report.sections[0].comparisons[0].difference
    assert f"<small>{wins.wins} / {wins.ties} / {wins.losses}</small>" in text
    assert "steered the sessions also scores them" in text
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text
    assert built(folder)[1] == text, "the same run gives the same page"


def test_the_baseline_can_be_chosen(folder: Path) -> None:
    report, text = built(folder, "think")
    assert report.arms[0] == "think" and "<h1>single did harm everywhere</h1>" in text
    done = run("eval", "report", folder, "--baseline", "x")
    assert done.returncode == 2 and "'x' is none of the arms: single, think" in done.stderr


def test_a_gain_that_is_not_sure_is_not_called_one(tmp_path: Path) -> None:
    _, text = built(made_run(tmp_path, ["own"], 12, gain=0.0))
    assert "<h1>think: no sure difference</h1>" in text and "not sure" in text


def test_three_arms_one_arm_and_no_results(tmp_path: Path) -> None:
    _, text = built(made_run(tmp_path / "3", ["own"], 8, {"single": {}, "two": {}, "five": {}}))
    assert "2 arms paid" in text and "<small>five</small>" in text
    _, text = built(made_run(tmp_path / "1", ["own"], 4, {"only": {}}))
    assert "<h1>Results of only</h1>" in text and "Add a second one" in text
    empty = made_run(tmp_path / "0", ["own"], 1)
    (empty / results.JOURNAL).write_text("")
    assert "the run has no results" in run("eval", "report", empty).stderr


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 6)
    lines = [json.loads(line) for line in (folder / results.JOURNAL).read_text().splitlines()]
    lines[1]["row"] |= {"status": "failed", "output": None, "overall": None, "error_message": "no"}
    lines[3]["row"] |= {"status": "skipped", "output": None, "overall": None}
    (folder / results.JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    report, text = built(folder)
    assert report.sections[0].comparisons[0].difference.items == 3
    assert "think: of 6 items 1 failed, 1 skipped, 1 not run" in text


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["own"], 2)
    table = folder.parent / "data/own/items.jsonl"
    evil = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\u202egnp"
    rows: list[dict[str, Any]] = [json.loads(line) for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(row | {"instruction": evil, "group": evil}) + "\n" for row in rows))
    lines = [json.loads(line) for line in (folder / results.JOURNAL).read_text().splitlines()]
    for line in lines:
        line["row"]["arm"] = line["row"]["arm"].replace("think", "<b>x</b>")
    (folder / results.JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, text = built(folder)
    assert "<script" not in text and "<img src=x" not in text and "<b>x</b>" not in text and "\u202e" not in text


def test_the_page_in_a_browser(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(built(folder)[1], "utf-8")
    said: list[str] = []
    with chromium() as browser:
        for width, scheme in ((1280, "light"), (360, "dark")):
            shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
            shown.on("console", lambda message: said.append(message.text))
            shown.goto(path.as_uri())
            assert said == []
            assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert shown.locator(".card").first.is_visible()
            found = Axe().run(shown)
            assert found.violations_count == 0, found.generate_report()
            shown.close()


def test_scores_as_rows(folder: Path) -> None:
    rows = tables.scores(folder, datasets.reopen(running.manifest(folder)), results.read(folder))
    assert {row["metric"] for row in rows} == {"semantic", "quality", "overall"}
