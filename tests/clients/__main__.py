"""``python -m tests.clients [--write] [NAME …]``: every client against the embedded stack; prints the table of docs/clients.md.

A NAME is a part of a client's name; ``--write`` puts the rows into the page. ``EDITTHINKER_CLIENTS`` is the folder of
`install.sh`; the reference's scripts are run if ``EDITTHINKER_REFERENCE`` is set. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.clients import curl, node, packages, programs, python, reference, replayed
from tests.clients.server import Check, Client, Server, installed, server
from tests.doubles.browser import pages

PAGE = Path(__file__).parents[2] / "docs/clients.md"
HEAD = "| client | version | date | verdict | note |\n|---|---|---|---|---|\n"
_REFERENCE = (reference,) if os.environ.get("EDITTHINKER_REFERENCE") else ()
_MODULES = (python, curl, replayed, programs, node, packages, *_REFERENCE)
CLIENTS: tuple[Client, ...] = tuple(client for module in _MODULES for client in module.CLIENTS)
CHECKS: tuple[Check, ...] = tuple(check for module in _MODULES for check in module.CHECKS)


def verdict(running: Server, check: Check) -> str:
    """Why a check failed; nothing if it did not."""
    began = time.monotonic()
    try:
        check.run(running)
        failure = ""
    except Exception as exc:  # noqa: BLE001 - any failure of a client is a verdict
        failure = (str(exc) or type(exc).__name__).strip().replace("\n", " ")[-400:]
    sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {check.client}: {check.name}: {failure or 'works'}\n")
    return failure


def row(running: Server, client: Client, failures: list[str]) -> str:
    """A row of the table."""
    count = sum(check.client == client.name for check in CHECKS)
    works = f"works ({count})" if not failures else f"{count - len(failures)} of {count}; fails: {'; '.join(failures)}"
    try:
        version = client.version(running)
    except (AssertionError, OSError):
        version = "not installed"
    return f"| {client.name} | {version} | {time.strftime('%Y-%m-%d')} | {works} | {client.note} |\n"


def updated(page: str, rows: dict[str, str]) -> str:
    """The page with these rows in its table, by their clients; the rows of other clients stay."""

    def table(found: re.Match[str]) -> str:
        before = {line[2:].partition(" | ")[0]: line for line in found[2].splitlines(keepends=True)}
        return found[1] + "".join((before | rows).values())

    return re.sub(rf"({re.escape(HEAD)})((?:\|.*\n)*)", table, page, count=1)


def main(names: list[str]) -> int:
    """Run the checks of the named clients."""
    wanted = [name for name in names if name != "--write"]
    failed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        pages("") as site,
        server(Path(folder), site, installed()) as running,
    ):
        rows: dict[str, str] = {}
        sys.stdout.write(HEAD)
        for client in CLIENTS:
            if wanted and not any(name in client.name for name in wanted):
                continue
            seen = {check.name: verdict(running, check) for check in CHECKS if check.client == client.name}
            failures = [name for name, failure in seen.items() if failure]
            failed += len(failures)
            rows[client.name] = row(running, client, failures)
            sys.stdout.write(rows[client.name])
            sys.stdout.flush()
    if "--write" in names:
        PAGE.write_text(updated(PAGE.read_text("utf-8"), rows), "utf-8")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
