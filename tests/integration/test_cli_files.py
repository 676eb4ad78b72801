"""What the command line writes, and what it refuses to write over."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from editthinker.cli.failures import UsageError
from editthinker.cli.target import folder_for, whole, writable, write_whole

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg"


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    """A report over the result, a device, a folder where a file is; nothing of it is touched."""
    fifo, taken = tmp_path / "pipe.png", tmp_path / "taken"
    os.mkfifo(fifo)
    taken.write_text("mine")
    for arguments, told in (
        (["-o", str(tmp_path / "a.png"), "--report", str(tmp_path / "a.png")], "need different names"),
        (["-o", str(fifo)], "not a regular file"),
        (["-o", str(tmp_path / "a.png"), "--save-turns", str(taken)], "the folder cannot be made"),
    ):
        command = [
            sys.executable,
            "-m",
            "editthinker",
            "edit",
            str(PHOTO),
            "golden",
            "--server",
            "http://127.0.0.1:9",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode != 0
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert taken.read_text() == "mine"
    assert fifo.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it points at is written."""
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_whole(link, b"new")

    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_draft_needs_a_folder_that_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before the work: a file that may be written is not enough, and what a link points at counts."""
    closed, fine = tmp_path / "closed", tmp_path / "fine"
    for folder in (closed, fine):
        folder.mkdir()
        (folder / "old.png").write_bytes(b"old")
    for name, points in (
        ("there", closed / "old.png"),
        ("dangling", closed / "new.png"),
        ("nowhere", tmp_path / "no" / "new.png"),
    ):
        (fine / name).symlink_to(points)
    (fine / "one").symlink_to(fine / "other")
    (fine / "other").symlink_to(fine / "one")
    (fine / "made").symlink_to(fine / "yet-to-be.png")
    allowed = os.access
    # For root every folder is open.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and allowed(path, mode))
    for path, told in (
        (closed / "old.png", f"no file can be made in the folder {closed}"),
        (closed / "new.png", f"no file can be made in the folder {closed}"),
        (fine / "there", f"no file can be made in the folder {closed}"),
        (fine / "dangling", f"no file can be made in the folder {closed}"),
        (fine / "nowhere", "does not exist"),
        (fine / "one", "leads nowhere"),
    ):
        with pytest.raises(UsageError, match=told):
            writable(path)
    with pytest.raises(UsageError, match="no file can be made"):
        folder_for(closed)
    writable(fine / "made")
    write_whole(fine / "made", b"new")
    assert (fine / "yet-to-be.png").read_bytes() == b"new"
    assert (fine / "made").is_symlink()


def test_a_file_that_cannot_be_written_is_told_by_its_own_name(tmp_path: Path) -> None:
    """Not by that of the draft, which nobody asked for; and the draft is gone."""
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "no" / "a.png", b"new")
    assert caught.value.filename == str(tmp_path / "no" / "a.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as taken:
        write_whole(tmp_path / "folder", b"new")
    assert taken.value.filename == str(tmp_path / "folder")
    with suppress(RuntimeError), whole(tmp_path / "b") as file:
        file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
