"""The check of judges: a fixed set tells one that judges from one that does not; in the background, until it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.execution.judge_check import JudgeChecks, checked
from orchestrator.ports.collaborators import (
    ChecklistOrder,
    ChecklistReply,
    CheckResult,
    CompareOrder,
    CompareReply,
    CritiqueOrder,
    CritiqueReply,
)
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.embedded.thinker.app import create_app
from services.protocol.critique.formats import FORMATS
from tests.component.orchestrator.desk import asking
from tests.doubles.upstreams import serving


@dataclass
class Scorer:
    """Scores by a rule over (is it the source, is it black, the instruction)."""

    scores: dict[str, float] = field(default_factory=dict)
    failures: int = 0
    asked: int = 0

    def _kind(self, order: CritiqueOrder) -> str:
        if "Mirror" in order.instruction:
            return "swapped"
        if order.candidate.ref == order.source.ref:
            return "untouched"
        return "black" if order.candidate.ref.bytes < 1_000 else "good"

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise ThinkerError("thinker_unreachable", "away", retryable=True)
        score = self.scores.get(self._kind(order), 2.0)
        return CritiqueReply(score, score, "", None)

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        raise AssertionError

    async def ready(self) -> bool:
        return True


@dataclass
class Pairs:
    """Compares by its own answer for each question, in turn."""

    winners: list[Any]

    async def compare(self, order: CompareOrder) -> CompareReply:
        return CompareReply(self.winners.pop(0))

    async def ready(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("scores", "failed"),
    [
        ({"good": 9.0}, ()),
        ({"good": 9.0, "black": 9.0}, ("black",)),
        ({"good": 9.0, "untouched": 8.5}, ("untouched",)),
        ({"good": 9.0, "swapped": 9.5}, ("swapped",)),
        ({"good": 5.0, "untouched": 5.0, "black": 5.0, "swapped": 5.0}, ("untouched", "black", "swapped")),
    ],
    ids=["judges", "takes black for good", "takes nothing for good", "reads no instruction", "always 5"],
)
async def test_a_judge_that_cannot_tell_the_good_edit_apart_fails(scores: dict[str, float], failed: tuple[str, ...]) -> None:
    result = await checked(Scorer(scores))

    assert result.failed == failed
    assert result.margins is not None and result.preferences is None
    assert result.margins["black"] == scores["good"] - scores.get("black", 2.0)


async def test_a_judge_that_compares_must_prefer_the_good_edit() -> None:
    good, biased = await checked(Pairs(["first"] * 3)), await checked(Pairs(["first", "tie", "second"]))

    assert (good.failed, biased.failed) == ((), ("black", "swapped"))
    assert biased.preferences == {"untouched": 1, "black": 0, "swapped": -1} and biased.margins is None


async def test_the_stand_in_passes_over_http() -> None:
    with serving(create_app(), lifespan="on") as url:
        async with asking("thinker", url) as upstream:
            spoken = FORMATS["editthinker"]
            result = await checked(HttpThinker(upstream, Dialect("rules", spoken, spoken.template())))

    assert result.failed == ()
    assert result.margins is not None and min(result.margins.values()) > 3


@dataclass
class Observer:
    told: list[tuple[str, CheckResult]] = field(default_factory=list)

    def judge_checked(self, judge: str, result: CheckResult) -> None:
        self.told.append((judge, result))


@dataclass
class Checks:
    """Checks of one judge, with a clock and a configuration that the test sets."""

    judge: Scorer
    now: float = 0.0
    settings: str = "first"
    observer: Observer = field(default_factory=Observer)

    def __post_init__(self) -> None:
        self.checks = JudgeChecks(lambda: {"j": self.judge}, lambda: {"j": self.settings}, self.observer, clock=lambda: self.now)


@pytest.fixture
def judged() -> Checks:
    return Checks(Scorer({"good": 9.0}))


async def test_a_judge_that_has_answered_is_not_asked_again_until_its_configuration_changes(judged: Checks) -> None:
    await judged.checks.check_due()
    await judged.checks.check_due()
    assert (judged.judge.asked, [name for name, _ in judged.observer.told]) == (4, ["j"])

    judged.settings = "second"
    await judged.checks.check_due()
    assert judged.judge.asked == 8


async def test_a_judge_that_is_away_is_asked_again_later_and_later(judged: Checks) -> None:
    judged.judge.failures = 2
    await judged.checks.check_due()
    await judged.checks.check_due()
    assert (judged.judge.asked, judged.checks.results) == (1, {})

    judged.now = 5.0
    await judged.checks.check_due()
    judged.now = 14.0
    await judged.checks.check_due()
    assert judged.judge.asked == 2

    judged.now = 15.0
    await judged.checks.check_due()
    assert judged.checks.results["j"].failed == () and judged.judge.asked == 6


async def test_failures_are_told_by_name(judged: Checks) -> None:
    judged.judge.scores = {"good": 2.0}
    await judged.checks.check_due()

    assert judged.checks.failures() == {"j": ("untouched", "black", "swapped")}
