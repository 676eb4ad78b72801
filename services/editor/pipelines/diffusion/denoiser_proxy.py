"""The stand-in for a pipeline's transformer or U-Net, at which an edit stops and waits for its turn."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from greenlet import getcurrent

from services.editor.pipelines.diffusion.calls import Call


class DenoiserProxy:
    """Looks like the model to the pipeline that holds it, but hands every call over instead of computing it.

    A call switches to the greenlet that runs the edit's pipeline from outside, with a `Call`, and returns what is switched back.

    Args:
        model: the real model; every attribute is its.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._context: str | None = None
        self._signature = signature_of(model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Hand the call over, and return what comes back."""
        outside = getcurrent().parent
        assert outside is not None
        return outside.switch(Call(self._signature(*args, **kwargs), self._context))

    @contextlib.contextmanager
    def cache_context(self, name: str, **where: Any) -> Iterator[None]:
        """As the model's: the context goes along with the calls made inside."""
        del where
        before, self._context = self._context, name
        try:
            yield
        finally:
            self._context = before


def signature_of(model: Any) -> Callable[..., dict[str, Any]]:
    """Names positional arguments as the model's ``forward`` does, and adds those that are None if they are not given: a
    pipeline that leaves one out in one of its calls means the same as where it does not.
    """
    signature = inspect.signature(model.forward)
    absent = {name: None for name, parameter in signature.parameters.items() if parameter.default is None}

    def named(*args: Any, **kwargs: Any) -> dict[str, Any]:
        given = dict(signature.bind_partial(*args).arguments) | kwargs
        return given | {name: value for name, value in absent.items() if name not in given}

    return named
