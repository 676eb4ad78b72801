"""Tests that failed among the others run once more, alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BY_CHANCE = """
import pathlib, pytest

class TestThat:
    @pytest.mark.xdist_group("some")
    @pytest.mark.parametrize("value", ["a.b", "x@y[1]"])
    def test_fails_the_first_time(self, value):
        seen = pathlib.Path(value.replace("[", "").replace("]", ""))
        known = seen.exists()
        seen.touch()
        assert known
"""
ALWAYS = "def test_wrong(): assert False\n"


def run(folder: Path, text: str, *arguments: str) -> tuple[int, str]:
    (folder / "test_them.py").write_text(text)
    command = [sys.executable, "-m", "tests.again", "-p", "no:cacheprovider", *arguments, "test_them.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("arguments", [(), ("--numprocesses", "2", "--dist", "loadgroup")])
def test_one_that_passes_alone_is_named_and_holds_nothing_back(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    status, told = run(tmp_path, BY_CHANCE, *arguments)
    assert status == 0, told
    assert told.count("2 failed") == told.count("2 passed") == 1
    name = "test_them.py::TestThat::test_fails_the_first_time"
    assert f"UNSTEADY, to be mended: {name}[a.b], {name}[x@y[1]] failed" in told


def test_what_fails_alone_too_fails(tmp_path: Path) -> None:
    status, told = run(tmp_path, BY_CHANCE + ALWAYS)
    assert status == 1
    assert "UNSTEADY" not in told


@pytest.mark.parametrize(
    ("text", "status"),
    [("\n".join(f"def test_{number}(): assert False" for number in range(4)), 1), ("import nothing_of_this_name", 2)],
)
def test_more_than_a_few_failures_and_errors_of_collection_run_once(tmp_path: Path, text: str, status: int) -> None:
    found, told = run(tmp_path, text)
    assert found == status
    assert "once more" not in told


def test_nothing_runs_again_where_all_pass(tmp_path: Path) -> None:
    assert run(tmp_path, "def test_right(): pass\n")[0] == 0
