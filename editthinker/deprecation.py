"""Names of the last version, which work for one more release and warn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping


def renamed(module: str, names: Mapping[str, type]) -> Callable[[str], type]:
    """A module's ``__getattr__`` that finds its old names.

    Args:
        module: the module's name.
        names: the classes by their old names.
    """

    def getattr_(name: str) -> type:
        if (kind := names.get(name)) is None:
            message = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(message)
        # A private class is one that was split: its parts have the new names.
        parts = kind.__subclasses__() if kind.__name__.startswith("_") else [kind]
        new = " or ".join(part.__name__ for part in parts)
        warnings.warn(f"{module}.{name} is now {new}", DeprecationWarning, stacklevel=2)
        return kind

    return getattr_
