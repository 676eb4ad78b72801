"""Whether a test left processes behind; those that fixtures of other tests keep do not count."""

from __future__ import annotations

import psutil

_KEPT: set[int] = set()


def _children() -> dict[int, psutil.Process]:
    return {child.pid: child for child in psutil.Process().children(recursive=True)}


def begin() -> None:
    """What runs now is not this test's."""
    _KEPT.clear()
    _KEPT.update(_children())


def no_children_left() -> bool:
    """Nothing that this test started still runs (a zombie that awaits its parent does not)."""
    for pid, child in _children().items():
        try:
            if pid not in _KEPT and child.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
    return True
