"""exiftool, which reads marks with code that shares nothing with ours; Debian's package is unpacked into `.exiftool/`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.doubles.debian import program


def tags(folder: Path, picture: bytes) -> dict[str, Any]:
    """All tags of a picture with their groups, and what a validation of the file says, as ``Validate``.

    Raises:
        NoProgramError: with what to install.
    """
    found = program("exiftool", "libimage-exiftool-perl", ".exiftool")
    path = folder / "picture"
    path.write_bytes(picture)
    libraries = Path(found).parent / "usr/share/perl5"
    environment = {**os.environ, **({"PERL5LIB": str(libraries)} if libraries.is_dir() else {})}
    command = [found, "-json", "-G1", "-struct", "-validate", "-all", str(path)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    read: dict[str, Any] = json.loads(made.stdout)[0]
    return read


def source_type(folder: Path, picture: bytes) -> str | None:
    """IPTC's Digital Source Type of a picture, which must be a valid file."""
    read = tags(folder, picture)
    assert read["ExifTool:Validate"].startswith("OK"), read
    told = read.get("XMP-iptcExt:DigitalSourceType")
    return None if told is None else str(told)
