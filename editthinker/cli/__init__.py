"""The command line: ``editthinker edit | up | serve | editor serve | thinker serve | sessions …``.

Exit codes: 0 done; 1 it failed; 2 it was asked wrongly; 130 interrupted.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from editthinker.cli.app import app  # noqa: PLC0415 - the library is used without these packages
        from editthinker.cli.streams import never_fail  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name not in {"typer", "rich"}:
            raise
        sys.exit("editthinker: the command line needs more packages: pip install 'editthinker[cli]'")
    never_fail()
    app()
