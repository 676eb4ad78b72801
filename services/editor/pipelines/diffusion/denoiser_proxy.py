"""A proxy for a pipeline's transformer or U-Net, at which an edit yields to the scheduler."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from greenlet import getcurrent

from services.editor.pipelines.diffusion.calls import Call


class DenoiserProxy:
    """Has the attributes of the model, but yields every call instead of computing it.

    A call switches to the parent greenlet with a `Call`, and returns what the parent switches back.

    Args:
        model: the real model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._context: str | None = None
        self._signature = signature_of(model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Yield the call to the parent greenlet, and return its answer."""
        parent = getcurrent().parent
        assert parent is not None
        return parent.switch(Call(self._signature(*args, **kwargs), self._context))

    @contextlib.contextmanager
    def cache_context(self, name: str, **where: Any) -> Iterator[None]:
        """Record the cache context for the calls made within it."""
        del where
        before, self._context = self._context, name
        try:
            yield
        finally:
            self._context = before


def signature_of(model: Any) -> Callable[..., dict[str, Any]]:
    """A function that returns a call's arguments by the names in the model's ``forward``, with those whose default is None
    added, so that calls with and without them compare equal.
    """
    signature = inspect.signature(model.forward)
    absent = {name: None for name, parameter in signature.parameters.items() if parameter.default is None}

    def named(*args: Any, **kwargs: Any) -> dict[str, Any]:
        given = dict(signature.bind_partial(*args).arguments) | kwargs
        return given | {name: value for name, value in absent.items() if name not in given}

    return named
