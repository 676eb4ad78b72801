"""``python -m tests.tiny NAME FOLDER``: write a tiny pipeline that ``--model FOLDER`` serves."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.tiny import BUILDERS, save


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.tiny", description=__doc__)
    parser.add_argument("name", choices=sorted(BUILDERS))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    save(arguments.name, arguments.folder)


if __name__ == "__main__":
    main()
