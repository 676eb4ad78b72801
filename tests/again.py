"""Run pytest; a few tests that failed among the others run once more, alone: ``python -m tests.again ARGUMENTS``.

Thousands of tests with real processes share a few cores. A test that fails there and passes alone is named at the end: it holds a
race or a bound of time, and is to be mended, but it does not hold back what the others show. More than a few are no accident.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import pytest

FEW: Final = 3


class Failures:
    """A plugin that collects what failed, as pytest names it on a command line."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of xdist's workers, too."""
        if report.failed and (name := name_of(report)) not in self.names:
            self.names.append(name)


def name_of(report: pytest.TestReport) -> str:
    """A test's name; xdist appends its groups to `nodeid`."""
    path, _, domain = report.location
    # A parameter may hold dots.
    plain, bracket, parameters = domain.partition("[")
    return f"{path}::{plain.replace('.', '::')}{bracket}{parameters}"


def main(arguments: Sequence[str]) -> int:
    """Pytest's exit status; 0, too, when all that failed passes alone."""
    failures = Failures()
    status = int(pytest.main([*arguments], plugins=[failures]))
    if status != pytest.ExitCode.TESTS_FAILED or not 0 < len(failures.names) <= FEW:
        return status
    sys.stdout.write(f"once more, alone: {', '.join(failures.names)}\n")
    sys.stdout.flush()
    again = subprocess.run([sys.executable, "-m", "pytest", *failures.names], check=False).returncode
    if again == pytest.ExitCode.OK:
        sys.stdout.write(f"UNSTEADY, to be mended: {', '.join(failures.names)} failed among the others and passed alone\n")
    return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
