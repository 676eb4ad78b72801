"""The command line ``editthinker``: edit, up, serve, editor serve, thinker serve, sessions, keys, quota, sweep.

Exit statuses: 0 done; 1 it failed; 2 wrong use; 130 interrupted.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from editthinker.cli.app import app  # noqa: PLC0415 - the client library works without these packages
        from editthinker.cli.streams import escape_unencodable  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name not in {"typer", "rich"}:
            raise
        sys.exit("editthinker: the command line needs more packages: pip install 'editthinker[cli]'")
    escape_unencodable()
    app()
