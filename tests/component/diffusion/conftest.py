"""Tests of the diffusion families run torch on one thread: tiny models are faster so, and reproducible."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

# The classical editor is developed without torch.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]

# diffusers' Euler schedulers hand torch tensors to numpy, which would like torch to know of its newest keyword.
_THEIRS = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(_THEIRS))


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """As before afterwards: other tests share the process. Collections, which the warm-up asks for, skip what libraries made."""
    import diffusers  # noqa: F401, PLC0415 - see above
    import torch  # noqa: PLC0415
    import transformers  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def own_areas() -> Iterator[None]:
    """A family, or `generic`, that works at another area replaces what a module of diffusers computes sizes with."""
    yield
    for name, module in list(sys.modules.items()):
        if name.startswith("diffusers.pipelines.") and "calculate_dimensions" in vars(module):
            vars(module)["calculate_dimensions"] = inspect.unwrap(vars(module)["calculate_dimensions"])
