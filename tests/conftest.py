"""`slow.txt` names the files that `make test-slow` runs and `make test` does not.

Hypothesis explores new examples on every local run, and runs the same examples in CI, which must be deterministic.

Tests that share what a fixture makes once for their module run in one process, so that it is made once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import stamina.instrumentation
from hypothesis import settings

# Retries are no events of their own in the product either, and drawing them takes longer than some tests have.
stamina.instrumentation.set_on_retry_hooks(())

_SLOW: Final = Path(__file__).with_name("slow.txt")

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark what is slow, and what shares a fixture as xdist's groups, which it reads after this."""
    slow = {line for line in _SLOW.read_text("utf-8").splitlines() if not line.startswith("#")}
    for item in items:
        if item.path.relative_to(_SLOW.parent.parent).as_posix() in slow:
            item.add_marker("slow")
        shared = _shared(item) if isinstance(item, pytest.Function) else None
        if shared is not None and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(shared))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest with which xdist drops its groups without a word: it appends them to a private name of an item's id."""
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group") is not None]
    if grouped and session.config.getoption("loadgroup", False) and not all("@" in item.nodeid for item in grouped):
        raise pytest.UsageError(
            "this pytest-xdist cannot group the tests of this pytest: install the versions of constraints.txt"
        )


def _shared(item: pytest.Function) -> str | None:
    """The module, and the values of its parameters that fixtures of the module depend on; None without such fixtures."""
    fixtures = item._fixtureinfo
    asked = set(fixtures.argnames)
    by_themselves = set(fixtures.initialnames) - asked
    scopes = {name: made[-1].scope for name, made in fixtures.name2fixturedefs.items() if name not in by_themselves}
    names = sorted(name for name, scope in scopes.items() if scope == "module")
    if not names:
        return None
    values = item.callspec.params if hasattr(item, "callspec") else {}
    return "-".join([item.path.stem, *(str(values[name]) for name in names if name in values)])
