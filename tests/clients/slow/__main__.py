"""``python -m tests.clients.slow``: an editor of 130 s an edit, and every client with its defaults (about five minutes)."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.clients.server import installed
from tests.clients.slow.run import EDIT_S, LIGHT, NODE, run


def main() -> int:
    """Run, print a table, and fail if a client got no picture or more than one session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edit-s", type=float, default=EDIT_S, help="seconds of an edit; the server's defaults scale with it")
    arguments = parser.parse_args()
    packages = installed()
    with tempfile.TemporaryDirectory() as home:
        clients = {**LIGHT, **(NODE if packages else {})}
        verdicts = asyncio.run(run(Path(home), clients, scale=arguments.edit_s / EDIT_S, packages=packages))
    sys.stdout.write("| client | picture | sessions | edits | seconds |\n|---|---|---|---|---|\n")
    for found in verdicts:
        shown = found.error or "yes"
        sys.stdout.write(f"| {found.name} | {shown} | {found.sessions} | {found.edits} | {found.seconds:.0f} |\n")
    return 0 if all(found.good for found in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
