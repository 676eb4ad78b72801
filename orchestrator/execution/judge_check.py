"""Whether a judge can tell a good edit from none. Each is asked about a small fixed set when it first answers, in the background.

One picture is edited well ("black and white"), and the judge must prefer that to three others: the untouched source, a black
picture, and the same edit under another instruction. A judge that scores must score it a point of 10 higher; one that compares
must prefer it in both orders. Judges have been published that give a black picture the score of a good one (EditHF, issue 3).
Four critiques, or three comparisons, of 256 x 256 pixels. A judge is noisy: one that fails is asked everything twice more, the
figures are then the medians, and after a while it is asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median, median_low
from typing import Final, Protocol

from PIL import Image, ImageDraw, ImageOps

from orchestrator.loop.events import ImageRef
from orchestrator.ports.collaborators import CheckResult, CompareOrder, Comparer, CritiqueOrder, Judge, StoredImage
from orchestrator.ports.errors import PortError
from services.serving.background import run_forever

log = logging.getLogger(__name__)
_SIDE: Final = 256
_ASKED: Final = "Make the picture black and white."
_SWAPPED: Final = "Mirror the picture horizontally."
_TIMEOUT_S: Final = 120.0
_PAUSE_S: Final = 2.0
_FIRST_RETRY_S: Final = 5.0
_LONGEST_RETRY_S: Final = 600.0
_FAILED_RETRY_S: Final = 3600.0


class CheckObserver(Protocol):
    """Observes the checks; metrics implement it."""

    def judge_checked(self, judge: str, result: CheckResult) -> None:
        """A judge answered all questions of the check."""
        ...


@dataclass(slots=True)
class _Due:
    at: float = 0.0
    pause_s: float = _FIRST_RETRY_S


@dataclass(slots=True)
class JudgeChecks:
    """Checks every judge once, one that failed again after a while, and all when their configuration changes.

    Attributes:
        judging: the judges now, by name.
        settings: by name, what a judge is configured as; one that changes is checked again.
        observer: gets the results.
        results: by name, of those that have answered.
        clock: monotonic seconds.
    """

    judging: Callable[[], Mapping[str, Judge | Comparer]]
    settings: Callable[[], Mapping[str, object]]
    observer: CheckObserver
    results: dict[str, CheckResult] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _of: dict[str, object] = field(default_factory=dict)
    """By name, the settings that a result is of."""
    _due: dict[str, _Due] = field(default_factory=dict)

    def failures(self) -> dict[str, tuple[str, ...]]:
        """By name, what a judge could not tell from the good edit; those that passed, or have not answered, are left out."""
        return {name: result.failed for name, result in self.results.items() if result.failed}

    async def check_forever(self) -> None:
        """Check those that are due; repeated until each has answered."""

        async def check() -> None:
            await self.check_due()
            await asyncio.sleep(_PAUSE_S)

        await run_forever("checking judges", check, pause_s=_PAUSE_S)

    async def check_due(self) -> None:
        """Ask every judge that has not passed yet, and whose last attempt was long enough ago."""
        judges, settings = self.judging(), self.settings()
        for name in [name for name in self._of if settings.get(name) != self._of[name]]:
            del self._of[name]
            self._due.pop(name, None)
            self.results.pop(name, None)
        now = self.clock()
        due = [name for name in judges if self._due.setdefault(name, _Due()).at <= now]
        await asyncio.gather(*(self._check(name, judges[name], settings.get(name)) for name in due))

    async def _check(self, name: str, judge: Judge | Comparer, settings: object) -> None:
        # Before it is asked, so that no failure of ours makes it be asked without a pause.
        due = self._due[name]
        due.at, due.pause_s = self.clock() + due.pause_s, min(2 * due.pause_s, _LONGEST_RETRY_S)
        try:
            result = await _certain(judge)
        except PortError as exc:
            log.info("the check of the judge %s is postponed: %s", name, exc.message)
            return
        self._of[name], self.results[name] = settings, result
        due.at = self.clock() + _FAILED_RETRY_S if result.failed else math.inf
        self.observer.judge_checked(name, result)
        if result.failed:
            told = {"margins": result.margins, "preferences": result.preferences}
            log.warning("the judge %s cannot tell a good edit from: %s", name, ", ".join(result.failed), extra=told)


async def _certain(judge: Judge | Comparer) -> CheckResult:
    """One check of a judge that passes it; otherwise the medians of three."""
    first = await checked(judge)
    if not first.failed:
        return first
    results = [first, await checked(judge), await checked(judge)]
    margins = [result.margins for result in results if result.margins is not None]
    preferences = [result.preferences for result in results if result.preferences is not None]
    return CheckResult(
        {case: median(each[case] for each in margins) for case in margins[0]} if margins else None,
        {case: median_low(each[case] for each in preferences) for case in preferences[0]} if preferences else None,
    )


async def checked(judge: Judge | Comparer) -> CheckResult:
    """Ask a judge about the fixed set.

    Raises:
        PortError: when it does not answer one of the questions.
    """
    pictures = await asyncio.to_thread(_pictures)
    margins = await _margins(judge, pictures) if isinstance(judge, Judge) else None
    preferences = await _preferences(judge, pictures) if isinstance(judge, Comparer) else None
    return CheckResult(margins, preferences)


async def _margins(judge: Judge, pictures: Mapping[str, StoredImage]) -> dict[str, float]:
    async def overall(edited: str, instruction: str = _ASKED) -> float:
        order = CritiqueOrder(pictures["source"], pictures[edited], instruction, instruction, _TIMEOUT_S)
        reply = await judge.critique(order)
        return math.sqrt(reply.semantic * reply.quality)

    good = await overall("good")
    others = {"untouched": await overall("source"), "black": await overall("black"), "swapped": await overall("good", _SWAPPED)}
    return {case: round(good - other, 3) for case, other in others.items()}


async def _preferences(judge: Comparer, pictures: Mapping[str, StoredImage]) -> dict[str, int]:
    async def preference(better: str, worse: str, instruction: str = _ASKED) -> int:
        order = CompareOrder(pictures["source"], pictures[better], pictures[worse], instruction, _TIMEOUT_S)
        winner = (await judge.compare(order)).winner
        return 0 if winner == "tie" else 1 if winner == "first" else -1

    return {
        "untouched": await preference("good", "source"),
        "black": await preference("good", "black"),
        "swapped": await preference("mirrored", "good", _SWAPPED),
    }


def _pictures() -> dict[str, StoredImage]:
    source = _scene()
    return {
        "source": _stored(source),
        "good": _stored(ImageOps.grayscale(source).convert("RGB")),
        "black": _stored(Image.new("RGB", source.size)),
        "mirrored": _stored(ImageOps.mirror(source)),
    }


def _scene() -> Image.Image:
    """A house with a red roof on a meadow, left of a tree, below a blue sky with a sun."""
    picture = Image.new("RGB", (_SIDE, _SIDE))
    draw = ImageDraw.Draw(picture)
    for row in range(_SIDE):
        shade = row * 90 // _SIDE
        draw.line((0, row, _SIDE, row), (70 + shade, 140 + shade, 235) if row < _SIDE * 5 // 8 else (70, 200 - shade, 60))
    draw.ellipse((190, 20, 230, 60), (255, 220, 60))
    draw.rectangle((40, 110, 120, 190), (235, 215, 180))
    draw.polygon([(30, 110), (80, 60), (130, 110)], (200, 40, 40))
    draw.rectangle((70, 150, 92, 190), (110, 70, 40))
    draw.rectangle((180, 140, 192, 200), (100, 65, 35))
    draw.ellipse((155, 90, 217, 152), (30, 120, 45))
    return picture


def _stored(picture: Image.Image) -> StoredImage:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = buffer.getvalue()

    async def load() -> bytes:
        return data

    sha256 = hashlib.sha256(data).hexdigest()
    return StoredImage(ImageRef(sha256=sha256, media_type="image/png", bytes=len(data), width=_SIDE, height=_SIDE), load)
