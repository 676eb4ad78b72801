"""Every test of the client runs twice: with the blocking and with the async client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

import pytest

from editthinker import AsyncEditThinker, EditThinker
from editthinker.client import Retries

FAST = Retries(attempts=4, reconnects=4, initial=0.001, max=0.002, max_retry_after=2.0)


class Use(Protocol):
    """Do something with a client of a server: what the function gives, or the list of what it yields."""

    def __call__(self, base_url: str, do: Callable[[EditThinker], Any], **options: Any) -> Any: ...


def _blocking(base_url: str, do: Callable[[EditThinker], Any], **options: Any) -> Any:
    with EditThinker(base_url, **{"retries": FAST, **options}) as client:
        result = do(client)
        return list(result) if inspect.isgenerator(result) else result


def _async(base_url: str, do: Callable[[EditThinker], Any], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncEditThinker(base_url, **{"retries": FAST, **options}) as client:
            # The two have the same methods; the answers are awaitables here.
            result = do(cast("EditThinker", client))
            if inspect.isasyncgen(result):
                return [event async for event in result]
            return await result if inspect.isawaitable(result) else result

    return asyncio.run(run())


@pytest.fixture(params=[_blocking, _async], ids=["sync", "async"])
def use(request: pytest.FixtureRequest) -> Use:
    """The way to use a client."""
    return cast("Use", request.param)
