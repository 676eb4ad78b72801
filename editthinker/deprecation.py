"""Names of the last version, which work for one more release and warn."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(module: str, names: Mapping[str, Any]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that finds its old names.

    Args:
        module: the module's name.
        names: the classes and other types by their old names.
    """

    def getattr_(name: str) -> Any:
        if (kind := names.get(name)) is None:
            message = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(message)
        # A private class is one that was split: its parts have the new names.
        parts = kind.__subclasses__() if isinstance(kind, type) and kind.__name__.startswith("_") else [kind]
        new = " or ".join(_name(module, part) for part in parts)
        warnings.warn(f"{module}.{name} is now {new}", DeprecationWarning, stacklevel=2)
        return kind

    return getattr_


def _name(module: str, kind: Any) -> str:
    """The present name of a type; a union has none of its own."""
    if isinstance(kind, type):
        return kind.__name__
    return next(name for name, value in vars(sys.modules[module]).items() if value is kind)
