"""One scriptable collaborator for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina

from tests.doubles.upstreams import serving
from tests.unit.orchestrator.desk import Desk


@pytest.fixture(scope="module")
def open_desk() -> Iterator[Desk]:
    """Started once a module."""
    desk = Desk()
    with serving(desk.application()) as desk.url:
        yield desk


@pytest.fixture
def desk(open_desk: Desk) -> Desk:
    """The desk, empty."""
    open_desk.reset()
    return open_desk


@pytest.fixture
def at_once() -> Iterator[None]:
    """Retries do not wait; how many there are stays as configured."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield
