"""What the command line writes, and what it refuses to write over."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from editthinker.cli.failures import UsageError
from editthinker.cli.target import atomic, folder_for, writable, write_atomically

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg"


def test_outputs_that_cannot_be_written_are_refused_before_the_edit(tmp_path: Path) -> None:
    """A report over the result, a device, a folder where a file is; nothing of it is touched."""
    fifo, taken = tmp_path / "pipe.png", tmp_path / "taken"
    os.mkfifo(fifo)
    taken.write_text("mine")
    for arguments, says in (
        (["-o", str(tmp_path / "a.png"), "--report", str(tmp_path / "a.png")], "need different names"),
        (["-o", str(fifo)], "not a regular file"),
        (["-o", str(tmp_path / "a.png"), "--save-turns", str(taken)], "the folder cannot be created"),
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
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    assert taken.read_text() == "mine"
    assert fifo.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it points at is written."""
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_atomically(link, b"new")

    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_an_output_needs_a_writable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    for path, says in (
        (closed / "old.png", f"no file can be created in the folder {closed}"),
        (closed / "new.png", f"no file can be created in the folder {closed}"),
        (fine / "there", f"no file can be created in the folder {closed}"),
        (fine / "dangling", f"no file can be created in the folder {closed}"),
        (fine / "nowhere", "does not exist"),
        (fine / "one", "target does not exist"),
    ):
        with pytest.raises(UsageError, match=says):
            writable(path)
    with pytest.raises(UsageError, match="no file can be created"):
        folder_for(closed)
    writable(fine / "made")
    write_atomically(fine / "made", b"new")
    assert (fine / "yet-to-be.png").read_bytes() == b"new"
    assert (fine / "made").is_symlink()


def test_a_write_error_names_the_requested_file(tmp_path: Path) -> None:
    """Not by that of the draft, which nobody asked for; and the draft is gone."""
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "no" / "a.png", b"new")
    assert caught.value.filename == str(tmp_path / "no" / "a.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as taken:
        write_atomically(tmp_path / "folder", b"new")
    assert taken.value.filename == str(tmp_path / "folder")
    with suppress(RuntimeError), atomic(tmp_path / "b") as file:
        file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
