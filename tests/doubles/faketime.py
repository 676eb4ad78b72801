"""A wall clock that can be set while a process runs, by Debian's libfaketime; monotonic clocks stay right."""

from __future__ import annotations

from pathlib import Path

from tests.doubles.debian import program


def clock(file: Path) -> dict[str, str]:
    """The environment of a process whose wall clock differs by what the file says (`set_ahead`); noticed within a second.

    Raises:
        NoProgramError: with what to install.
    """
    set_ahead(file, 0)
    root = Path(program("faketime", "faketime", ".faketime")).parent
    found = [*root.glob("usr/lib/*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def set_ahead(file: Path, seconds: float) -> None:
    """Put the clock ahead, or back."""
    file.write_text(f"{seconds:+g}")
