"""Evaluation from Python, folders for arenas, and a command without its packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import evaluation
from editthinker.local import Stack
from evaluation.arms import Arm
from tests.doubles.chat_judge import chat_judge
from tests.doubles.layouts import own
from tests.doubles.runs import made_run
from tests.integration.test_cli_commands import plan, run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(tmp_path_factory.mktemp("data"), planner=plan) as stack:
        yield stack.base_url


def test_run_score_and_report_from_python(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    arms = [Arm("two", {"strategy": "think", "max_turns": 2, "seed": 0})]
    outcome = evaluation.run({"own": own(tmp_path / "data", 2)}, folder, strategies=["single"], arms=arms, server=server)
    assert [row.status for row in outcome.rows] == ["edited"] * 4
    with chat_judge(lambda *_: '{"semantic": 8, "quality": 2}') as judge:
        assert evaluation.score(folder, url=judge.url, model="j").asked == 4
    report = evaluation.make_report(folder)
    assert [section.judge for section in report.sections] == ["j", "server"]
    assert report.sections[0].lines[0].summary.headline == 4
    assert (folder / "report.html").exists() and len(evaluation.read(folder)) == 4


def test_a_folder_for_genarena(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["imgedit"], 3)
    done = run("eval", "export", folder, "--as", "genarena", "-o", tmp_path / "arena")
    assert done.stdout == f"6 pictures in {tmp_path / 'arena'}\n", done.stderr
    (table,) = (tmp_path / "arena/data/imgedit").glob("data-*.parquet")
    rows = pq.read_table(table).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2] and rows[0]["input_images"][0]["bytes"]
    pictures = sorted(
        path.relative_to(tmp_path / "arena/arena/imgedit/models") for path in (tmp_path / "arena/arena").rglob("*.png")
    )
    assert [path.parts[1:] for path in pictures][:2] == [("single", "000000.png"), ("single", "000001.png")]
    assert pictures[0].parts[0].startswith("EditThinker_2")


def test_a_gallery_for_geditbench_v2(tmp_path: Path) -> None:
    folder = made_run(tmp_path, ["gedit"], 3)
    assert run("eval", "export", folder, "--as", "geditv2", "-o", tmp_path / "gallery").returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "gallery/metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and lines[0]["key"] == "background_change_000000"
    assert all((tmp_path / "gallery" / line[name]).read_bytes() for line in lines for name in ("image_path", "source_image_path"))
    assert "write genarena or geditv2" in run("eval", "export", folder, "--as", "x", "-o", tmp_path / "y").stderr


def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path) -> None:
    without = "import sys; sys.modules['pyarrow'] = None; sys.modules['numpy'] = None; from editthinker.cli import main; main()"
    words = ["eval", "report", str(made_run(tmp_path, ["own"], 1))]
    done = subprocess.run([sys.executable, "-c", without, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and done.stderr.endswith("pip install 'editthinker[eval]'\n"), done.stderr


def test_importing_the_package_needs_none_of_its_packages() -> None:
    code = "import sys; sys.modules |= dict.fromkeys(('numpy', 'pyarrow', 'PIL', 'typer')); import evaluation; evaluation.run"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
