"""The code, docs and configuration use the field's words: some archaic words and former private names are rejected."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[3]
SUFFIXES: Final = {".py", ".md", ".lua", ".toml", ".yml", ".yaml", ".sh", ".cfg", ".js", ".css"}
#: This file names the words; the changelog names what was renamed.
EXCLUDED: Final = {"tests/unit/repo/test_words.py", "CHANGELOG.md"}

ARCHAIC: Final = (
    r"(?i)(?<![A-Za-z])(?:anew|whoever|whatever|whosever|meanwhile|lately|beside|thereof|whither|for ever|it went)(?![A-Za-z])"
)
#: "wish 7" is a prompt of the scale benchmark, whose text seeds its random draws.
FORMER_NAMES: Final = (
    r"(?<![A-Za-z])[Ww]ish(?:es)?(?![A-Za-z]| \d| \{| \(|\ list| \", at)"
    r"|\bsayings\b|\bleash\b|\belsewhere\(|\bpatience\.py\b|\btries\.Try\b"
    r"|\bservices[./]wire\b|\borchestrator[./](?:drive|deliveries|rounds|telemetry|commands|backends)\b"
)


def violations(pattern: str) -> list[str]:
    """The lines of tracked files that match, as ``file:line: text``."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = []
    for name in sorted(set(listed.stdout.split("\0")) - EXCLUDED - {""}):
        path = ROOT / name
        if path.suffix in SUFFIXES and path.is_file():
            lines = path.read_text("utf-8").splitlines()
            found += [f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if re.search(pattern, line)]
    return found


@pytest.fixture(scope="module", autouse=True)
def _checkout() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")


@pytest.mark.parametrize("pattern", [ARCHAIC, FORMER_NAMES], ids=["archaic", "former names"])
def test_rejected_words_do_not_occur(pattern: str) -> None:
    assert "\n".join(violations(pattern)) == ""
