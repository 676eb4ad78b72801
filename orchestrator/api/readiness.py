"""Readiness of the editors, thinkers and judges, checked at most every two seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from orchestrator.ports.collaborators import Comparer, Editor, Judge, Thinker

_CACHE_S: Final = 2.0


class ReadinessChecks:
    """The cached readiness of every editor, thinker and judge.

    Args:
        editors, thinkers, judges: by name; the mappings change when the configuration does.
    """

    def __init__(
        self,
        editors: Mapping[str, Editor],
        thinkers: Mapping[str, Thinker],
        judges: Mapping[str, Judge | Comparer] | None = None,
    ) -> None:
        self._roles: dict[str, Mapping[str, Editor | Judge | Comparer]] = {
            "editor": editors,
            "thinker": thinkers,
            "judge": judges or {},
        }
        self._checking = asyncio.Lock()
        self._at = float("-inf")
        self._results: dict[str, bool] = {}

    async def results(self) -> Mapping[str, bool]:
        """Whether each accepts requests, as ``editor:<name>``, ``thinker:<name>`` and ``judge:<name>``."""
        async with self._checking:
            asked = {f"{role}:{name}": each for role, named in self._roles.items() for name, each in named.items()}
            if time.monotonic() - self._at > _CACHE_S or self._results.keys() != asked.keys():
                found = await asyncio.gather(*(each.ready() for each in asked.values()))
                self._results, self._at = dict(zip(asked, found, strict=True)), time.monotonic()
            return self._results
