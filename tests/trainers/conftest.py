"""Runs only where the trainers are installed: `make test-trainers`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

collect_ignore_glob = ["consumers/*"]


@pytest.fixture(scope="session")
def trainers() -> Path:
    """The folder of their environments."""
    folder = os.environ.get("EDITTHINKER_TRAINERS")
    if not folder:
        pytest.skip("EDITTHINKER_TRAINERS is not set; make test-trainers sets it")
    return Path(folder).absolute()
