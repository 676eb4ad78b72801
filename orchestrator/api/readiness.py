"""Readiness of the editors and thinkers, checked at most every two seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from orchestrator.ports.collaborators import Editor, Thinker

_CACHE_S: Final = 2.0


class ReadinessChecks:
    """The cached readiness of every editor and thinker.

    Args:
        editors, thinkers: by name; the mappings change when the configuration does.
    """

    def __init__(self, editors: Mapping[str, Editor], thinkers: Mapping[str, Thinker]) -> None:
        self._editors = editors
        self._thinkers = thinkers
        self._checking = asyncio.Lock()
        self._at = float("-inf")
        self._results: dict[str, bool] = {}

    async def results(self) -> Mapping[str, bool]:
        """Whether each accepts requests, as ``editor:<name>`` and ``thinker:<name>``."""
        async with self._checking:
            names = [*(f"editor:{name}" for name in self._editors), *(f"thinker:{name}" for name in self._thinkers)]
            if time.monotonic() - self._at > _CACHE_S or self._results.keys() != set(names):
                roles: list[Editor | Thinker] = [*self._editors.values(), *self._thinkers.values()]
                found = await asyncio.gather(*(role.ready() for role in roles))
                self._results, self._at = dict(zip(names, found, strict=True)), time.monotonic()
            return self._results
