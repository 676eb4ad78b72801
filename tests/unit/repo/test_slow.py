"""The list of slow tests: a file that is renamed would come back to `make test` without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SLOW = [line for line in (ROOT / "tests/slow.txt").read_text("utf-8").splitlines() if not line.startswith("#")]


def test_it_is_sorted_and_names_files() -> None:
    assert sorted(set(SLOW)) == SLOW
    assert [name for name in SLOW if not (ROOT / name).is_file()] == []


def test_its_files_are_marked_and_no_other(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        name = item.path.relative_to(ROOT).as_posix()
        assert (item.get_closest_marker("slow") is not None) == (name in SLOW), name
