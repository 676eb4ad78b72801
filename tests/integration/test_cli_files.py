"""What the command line writes, and what it refuses to write over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from editthinker.cli.target import write_whole

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg"


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    """A report over the result, a device, a folder where a file is; nothing of it is touched."""
    fifo, taken = tmp_path / "pipe.png", tmp_path / "taken"
    os.mkfifo(fifo)
    taken.write_text("mine")
    for arguments, told in (
        (["-o", str(tmp_path / "a.png"), "--report", str(tmp_path / "a.png")], "names of their own"),
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
