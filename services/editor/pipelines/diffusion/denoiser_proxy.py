"""A proxy for a pipeline's transformer or U-Net, at which an edit yields to the scheduler."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from greenlet import getcurrent

from services.editor.pipelines.diffusion.calls import Call

_SETTERS = ("set_", "enable_", "disable_", "fuse_", "unfuse_")


class DenoiserProxy:
    """Has the attributes of the model, but yields every call instead of computing it.

    A call switches to the parent greenlet with a `Call`, and returns what the parent switches back. Methods that would change the
    model raise: other edits are in the middle of using it.

    Args:
        model: the real model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._context: str | None = None
        self._signature = signature_of(model)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(_SETTERS):
            raise RuntimeError(f"the pipeline changes its model during an edit ({name}), which others use at the same time")
        return getattr(self._model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Yield the call to the parent greenlet, and return its answer."""
        parent = getcurrent().parent
        assert parent is not None
        arguments, positional = self._signature(*args, **kwargs)
        return parent.switch(Call(arguments, self._context, positional))

    @contextlib.contextmanager
    def cache_context(self, name: str, **where: Any) -> Iterator[None]:
        """Record the cache context for the calls made within it."""
        del where
        before, self._context = self._context, name
        try:
            yield
        finally:
            self._context = before


def signature_of(model: Any) -> Callable[..., tuple[dict[str, Any], tuple[Any, ...]]]:
    """A function that returns a call's arguments by the names in the model's ``forward``, with those whose default is None
    added, so that calls with and without them compare equal; and those that cannot be given by name.
    """
    signature = inspect.signature(model.forward)
    absent = {name: None for name, parameter in signature.parameters.items() if parameter.default is None}
    nameless = any(
        parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY} for parameter in signature.parameters.values()
    )

    def named(*args: Any, **kwargs: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
        if nameless:
            return kwargs, args
        given = dict(signature.bind_partial(*args).arguments) | kwargs
        return given | {name: value for name, value in absent.items() if name not in given}, ()

    return named
