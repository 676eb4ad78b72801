"""Simulation of the loop's decisions: does a session choose and stop well when its judge is noisy?

The editor and the judge are random numbers; every decision is `orchestrator.loop.policy.decide`. A case has an instruction, whose
edits scatter around what that instruction can reach; refining moves that towards a ceiling, and sometimes away from it. The judge
sees the true scores with noise or a bias. Because the truth is known, so is what was chosen wrongly.

    python -m benchmarks.policies                              # the table of docs/decisions/0163
    python -m benchmarks.policies --sessions 200 --noise 1     # a quick look
    python -m benchmarks.policies --noise 1 --bias --draft .5  # with drafts that agree so far with renders
    python -m benchmarks.policies --noise 1 --bias --reject .5 # with edits stopped for unfinished pictures that are off so far
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.policies_picture import draw
from orchestrator.execution.judge_noise import CONFIRMATIONS, JudgeNoise
from orchestrator.loop import events as ev
from orchestrator.loop.actions import (
    CompareJob,
    CritiqueJob,
    EditJob,
    Finish,
    Job,
    PreviewJob,
    RejectEdit,
    StartTurn,
    VerifyJob,
    Work,
)
from orchestrator.loop.policy import decide
from orchestrator.loop.rejecting import wants_preview
from orchestrator.loop.session import Session, apply, fold

Kind = Literal["easy", "hard"]
KINDS: Final[tuple[Kind, ...]] = ("easy", "hard")
RuleSet = Literal["single scores", "repeated", "pairs"]
RULES: Final[tuple[RuleSet, ...]] = ("single scores", "repeated", "pairs")
"""Trusting single scores, as sessions without `choosing` do; asking again; and comparing pairs, with a judge that can."""
STRATEGIES: Final[tuple[ev.Strategy, ...]] = ("single", "best_of_n", "think", "think_best_of_n", "adaptive")
NOISES: Final = (0.0, 0.5, 1.0, 2.0)
BIASES: Final = ("always 10", "always 5", "drifting")
SHAPES: Final[dict[ev.Strategy, tuple[int, int]]] = {
    # max_turns, candidates
    "think": (5, 1),
    "think_best_of_n": (5, 2),
    "adaptive": (8, 1),
    "best_of_n": (1, 4),
    "single": (1, 1),
}
THRESHOLD: Final = 8.0
_REACH: Final[dict[Kind, tuple[float, float]]] = {"easy": (8.1, 1.2), "hard": (5.6, 1.5)}
"""What the caller's own instruction reaches: mean and deviation of the semantic score over cases."""
_QUALITY: Final = (8.5, 0.8)
_SCATTER: Final = 0.7
"""Deviation of an edit around what its instruction reaches, from seed to seed."""
_DRAFT_COST: Final = 1 / 8
"""Of an edit in full: a quarter of the area and half of the steps (docs/decisions/0152)."""
_PREVIEW_COST: Final = 1 / 3
"""Of an edit: the steps before its unfinished picture."""
_BLUR: Final = (0.5, 2.0)
"""By how much an unfinished picture scores lower: semantic, quality."""
_CEILING: Final = 9.0
_REFINING: Final = (0.2, 0.6)
"""The share of the way to the ceiling that a refined instruction makes on average, and the deviation of where it arrives."""
_DRIFT: Final = 2.0
"""What a drifting judge adds to its scores in the end: it begins strict and becomes mild over the sessions."""
_PAIR: Final = 0.5
"""Deviation of a comparison side by side, in that of a score: judges order pairs better than they score (arXiv 2602.06013)."""
_Z95: Final = 1.96
_IMAGE: Final = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)


@dataclass(frozen=True, slots=True)
class Truth:
    """The true scores of a candidate."""

    semantic: float
    quality: float

    @property
    def overall(self) -> float:
        """sqrt(semantic x quality)."""
        return math.sqrt(self.semantic * self.quality)

    @property
    def satisfies(self) -> bool:
        """Whether both scores reach the threshold."""
        return min(self.semantic, self.quality) >= THRESHOLD


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge: the deviation of its scores around the truth, or one of `BIASES`."""

    noise: float = 0.0
    bias: str = ""

    def scores(self, truth: Truth, progress: float, rng: random.Random) -> tuple[float, float]:
        """Its semantic and quality scores, 0-10; `progress` is 0 at the first session and 1 at the last."""
        if self.bias.startswith("always"):
            always = float(self.bias.split()[1])
            return always, always
        drift = _DRIFT * (progress - 0.5) if self.bias == "drifting" else 0.0
        return tuple(_score(true + drift + rng.gauss(0, self.noise)) for true in (truth.semantic, truth.quality))  # type: ignore[return-value]


@dataclass
class World:
    """One case, and everything that is made of it."""

    kind: Kind
    judge: Judge
    rng: random.Random
    progress: float = 0.0
    agreement: float = 0.0
    """Correlation of the scatter of a draft with that of its render, which has the same seed."""
    reach: dict[str, float] = field(default_factory=dict)
    """What an instruction reaches: the mean semantic score of its edits."""
    truths: dict[tuple[int, int], Truth] = field(default_factory=dict)
    drafted: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """By instruction and seed, the scatter of a draft."""
    critiques: int = 0
    disagreement: float = 0.0
    """Deviation of an unfinished picture's true scores around those of the finished one, less the blur."""

    def __post_init__(self) -> None:
        self.reach["given"] = self.rng.gauss(*_REACH[self.kind])
        self.quality = self.rng.gauss(*_QUALITY)

    def edit(self, job: EditJob) -> ev.Edited:
        """Finish a candidate."""
        if (job.turn, job.candidate) not in self.truths:
            self.begin(job)
        cost = _DRAFT_COST if job.draft else 1.0
        return ev.Edited(at=0, turn=job.turn, candidate=job.candidate, image=_IMAGE, editor_seconds=cost)

    def reject(self, action: RejectEdit, *, draft: bool) -> ev.EditFailed:
        """Stop a candidate after its unfinished picture."""
        place: dict[str, Any] = {"turn": action.turn, "candidate": action.candidate}
        cost = _PREVIEW_COST * (_DRAFT_COST if draft else 1.0)
        return ev.EditFailed(at=0, **place, attempt=1, code=ev.SUPERSEDED, message="", retryable=False, editor_seconds=cost)

    def begin(self, job: EditJob) -> None:
        """What a candidate will be."""
        scatter = self.rng.gauss(0, _SCATTER), self.rng.gauss(0, _SCATTER / 2)
        if job.draft:
            self.drafted[job.instruction, job.seed] = scatter
        elif of_draft := self.drafted.get((job.instruction, job.seed)):
            own = math.sqrt(1 - self.agreement**2)
            scatter = tuple(self.agreement * old + own * new for old, new in zip(of_draft, scatter, strict=True))  # type: ignore[assignment]
        truth = Truth(_score(self.reach[job.instruction] + scatter[0]), _score(self.quality + scatter[1]))
        self.truths[job.turn, job.candidate] = truth

    def critique_preview(self, job: PreviewJob) -> ev.PreviewCritiqued:
        """Judge an unfinished picture."""
        true, off = self.truths[job.turn, job.candidate], self.rng.gauss(0, self.disagreement)
        blurred = Truth(_score(true.semantic - _BLUR[0] + off), _score(true.quality - _BLUR[1] + off))
        semantic, quality = self.judge.scores(blurred, self.progress, self.rng)
        self.critiques += 1
        place: dict[str, Any] = {"turn": job.turn, "candidate": job.candidate}
        return ev.PreviewCritiqued(at=0, **place, semantic=semantic, quality=quality, instruction=self.refine(job.instruction))

    def critique(self, job: CritiqueJob | VerifyJob) -> ev.Critiqued | ev.Verified:
        """Judge a candidate and refine its instruction."""
        semantic, quality = self.judge.scores(self.truths[job.turn, job.candidate], self.progress, self.rng)
        self.critiques += 1
        refined = self.refine(job.instruction)
        kind = ev.Verified if isinstance(job, VerifyJob) else ev.Critiqued
        return kind(
            at=0, turn=job.turn, candidate=job.candidate, semantic=semantic, quality=quality, reasoning="", instruction=refined
        )

    def compare(self, job: CompareJob, session: Session) -> ev.Compared:
        """Compare two pictures: side by side where the judge can, by the score of the untouched source otherwise."""
        self.critiques += 1
        first = self.truths[job.first.turn, job.first.candidate]
        second = self.truths[job.second.turn, job.second.candidate] if job.second else Truth(0.0, 10.0)
        if session.created.choosing and session.created.choosing.compares:
            self.critiques += 1  # both orders
            votes = [first.overall - second.overall + self.rng.gauss(0, _PAIR * self.judge.noise) for _ in range(2)]
            winner: ev.Winner = "tie" if votes[0] * votes[1] <= 0 else "first" if votes[0] > 0 else "second"
            return ev.Compared(at=0, first=job.first, second=job.second, winner=winner, by="pair")
        semantic, quality = self.judge.scores(second, self.progress, self.rng)
        seen = session.candidate(job.first)
        assert seen is not None
        assert seen.scores is not None
        gap = seen.scores.overall - math.sqrt(semantic * quality)
        winner = "first" if gap > 0 else "second" if gap < 0 else "tie"
        return ev.Compared(at=0, first=job.first, second=job.second, winner=winner, by="scores")

    def refine(self, instruction: str) -> str:
        """Another instruction, which usually reaches more."""
        share, deviation = _REFINING
        now = self.reach[instruction]
        refined = f"refined {len(self.reach)}"
        self.reach[refined] = now + share * (_CEILING - now) + self.rng.gauss(0, deviation)
        return refined


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulated session.

    Attributes:
        cost: of its edits, in edits in full.
        true: the true overall score of its answer.
        best: whether no other candidate is truly better.
        gain: true overall score of the answer minus that of the first candidate.
        satisfied: whether it ended so; `rightly` whether the answer truly satisfies.
    """

    true: float
    best: bool
    gain: float
    satisfied: bool
    rightly: bool
    edits: int
    critiques: int
    cost: float


def simulate(world: World, created: ev.SessionCreated) -> tuple[Session, Finish]:
    """One session at its end."""
    session = fold([created])
    while True:
        action = decide(session, 0.0)
        match action:
            case StartTurn():
                session = apply(session, _turn(action))
            case Work(jobs):
                # An edit ends after its unfinished picture was judged.
                for job in [job for job in jobs if isinstance(job, PreviewJob)] or jobs:
                    session = _perform(session, world, job)
            case RejectEdit():
                session = apply(session, ev.EditRejected(at=0, turn=action.turn, candidate=action.candidate))
                session = apply(session, world.reject(action, draft=session.turns[action.turn - 1].draft))
            case Finish():
                return session, action
            case _:
                raise AssertionError(f"nothing else happens here: {action}")


def _turn(action: StartTurn) -> ev.TurnStarted:
    return ev.TurnStarted(
        at=0,
        turn=action.turn,
        instruction=action.instruction,
        author=action.author,
        candidates=action.candidates,
        first_seed=action.first_seed,
        draft=action.draft,
        renders=action.renders,
    )


def _perform(session: Session, world: World, job: Job) -> Session:
    match job:
        case EditJob(started=True):
            return apply(session, world.edit(job))
        case EditJob():
            started = ev.EditStarted(
                at=0, turn=job.turn, candidate=job.candidate, attempt=job.attempt, key=job.key, seed=job.seed
            )
            session = apply(session, started)
            if not wants_preview(session, job.turn):
                return apply(session, world.edit(job))
            world.begin(job)
            return apply(session, ev.Previewed(at=0, turn=job.turn, candidate=job.candidate, image=_IMAGE))
        case PreviewJob():
            return apply(session, world.critique_preview(job))
        case CritiqueJob() | VerifyJob():
            return apply(session, world.critique(job))
        case CompareJob():
            return apply(session, world.compare(job, session))
    raise AssertionError(f"an unknown job: {job}")


def _outcome(session: Session, world: World, end: Finish) -> Outcome:
    assert end.best is not None
    answer = world.truths[end.best.turn, end.best.candidate]
    full = [candidate for candidate in session.candidates if candidate.image and not candidate.draft]
    top = max(world.truths[candidate.turn, candidate.number].overall for candidate in full)
    return Outcome(
        true=answer.overall,
        best=answer.overall >= top,
        gain=answer.overall - world.truths[1, 1].overall,
        satisfied=end.reason == "satisfied",
        rightly=answer.satisfies,
        edits=session.totals.edits,
        critiques=world.critiques,
        cost=session.totals.editor_seconds,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: means over sessions, each with the half width of its 95 % interval."""

    rules: RuleSet
    strategy: ev.Strategy
    judge: str
    kind: str
    sessions: int
    true: tuple[float, float]
    best: tuple[float, float]
    false_satisfied: tuple[float, float]
    satisfied: tuple[float, float]
    edits: tuple[float, float]
    critiques: tuple[float, float]
    cost: tuple[float, float]
    gain_per_edit: tuple[float, float]


def mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the half width of its 95 % interval; NaN without values."""
    if not values:
        return math.nan, math.nan
    middle = math.fsum(values) / len(values)
    variance = math.fsum((value - middle) ** 2 for value in values) / max(len(values) - 1, 1)
    return middle, _Z95 * math.sqrt(variance / len(values))


def ratio(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """sum(values) / sum(weights), and the half width of its 95 % interval (delta method)."""
    total = math.fsum(weights)
    if not total:
        return math.nan, math.nan
    middle = math.fsum(values) / total
    residuals = [value - middle * weight for value, weight in zip(values, weights, strict=True)]
    return middle, _Z95 * math.sqrt(math.fsum(residual**2 for residual in residuals)) / total


def summarize(rules: RuleSet, strategy: ev.Strategy, judge: Judge, kind: str, outcomes: Sequence[Outcome]) -> Row:
    """A line of the table."""
    claimed = [outcome for outcome in outcomes if outcome.satisfied]
    further = [float(outcome.edits - 1) for outcome in outcomes]
    return Row(
        rules,
        strategy,
        judge.bias or f"noise {judge.noise:g}",
        kind,
        len(outcomes),
        true=mean([outcome.true for outcome in outcomes]),
        best=mean([float(outcome.best) for outcome in outcomes]),
        false_satisfied=mean([float(not outcome.rightly) for outcome in claimed]),
        satisfied=mean([float(outcome.satisfied) for outcome in outcomes]),
        edits=mean([float(outcome.edits) for outcome in outcomes]),
        critiques=mean([float(outcome.critiques) for outcome in outcomes]),
        cost=mean([outcome.cost for outcome in outcomes]),
        gain_per_edit=ratio([outcome.gain for outcome in outcomes], further),
    )


def first_event(
    strategy: ev.Strategy, choosing: ev.Choosing | None = None, *, draft: bool = False, reject: bool = False
) -> ev.SessionCreated:
    """The first event of a simulated session."""
    turns, candidates = SHAPES[strategy]
    limits = ev.Limits(max_turns=turns, candidates=candidates, deadline_at=1e9)
    return ev.SessionCreated(
        at=0.0,
        source=_IMAGE,
        instruction="given",
        editor="e",
        thinker="t",
        strategy=strategy,
        limits=limits,
        choosing=choosing,
        draft=draft,
        reject_early=reject,
    )


def sessions(  # noqa: PLR0913 - what a case is made of
    rules: RuleSet,
    strategy: ev.Strategy,
    judge: Judge,
    kind: Kind,
    count: int,
    seed: int,
    *,
    confirmations: int = CONFIRMATIONS,
    agreement: float | None = None,
    disagreement: float | None = None,
) -> Iterator[Outcome]:
    """The outcomes of so many cases of a kind; the same seed makes the same cases. One judge serves them all, so what is learnt
    of its noise stays.

    Args:
        agreement: with drafts that agree so far with their renders; None is without drafts.
        disagreement: with edits stopped for unfinished pictures whose scores are off so far; None is without.
    """
    known = JudgeNoise()
    for number in range(count):
        rng = random.Random(f"{seed} {kind} {number}")
        world = World(kind, judge, rng, progress=number / count, agreement=agreement or 0.0, disagreement=disagreement or 0.0)
        choosing = None
        if rules != "single scores" and strategy != "single":
            choosing = known.choosing("t", now=0.0, confirmations=confirmations, compares=rules == "pairs")
        flags = {"draft": agreement is not None, "reject": disagreement is not None and strategy != "single"}
        session, end = simulate(world, first_event(strategy, choosing, **flags))
        for candidate in session.candidates:
            known.repeated("t", candidate.critiques, now=0.0)
        yield _outcome(session, world, end)


def _score(value: float) -> float:
    return round(min(10.0, max(0.0, value)), 2)


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    shown = Table(show_edge=False, pad_edge=False)
    for name in ("rules", "strategy", "judge", "cases"):
        shown.add_column(name, no_wrap=True)
    for name in ("true score", "best %", "falsely satisfied %", "satisfied %", "edits", "cost", "critiques", "gain/edit"):
        shown.add_column(name, justify="right")
    for row in rows:
        shares = [f"{100 * middle:.0f} ±{100 * width:.0f}" for middle, width in (row.best, row.false_satisfied, row.satisfied)]
        figures = (row.true, row.edits, row.cost, row.critiques, row.gain_per_edit)
        means = [f"{middle:.2f} ±{width:.2f}" for middle, width in figures]
        shown.add_row(row.rules, row.strategy, row.judge, row.kind, means[0], *shares, *means[1:])
    return shown


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="policies", description="choosing and stopping under a noisy judge")
    parser.add_argument("--sessions", type=int, default=2000, help="sessions of each kind of case (2000)")
    parser.add_argument("--noise", type=float, nargs="*", default=NOISES, help="deviations of the judge's scores (0 .5 1 2)")
    parser.add_argument("--bias", nargs="*", default=BIASES, choices=BIASES, help="biased judges (all)")
    parser.add_argument("--strategy", nargs="*", default=STRATEGIES, choices=STRATEGIES, help="strategies (all)")
    parser.add_argument("--rules", nargs="*", default=RULES, choices=RULES, help="rules (all)")
    parser.add_argument("--confirmations", type=int, default=CONFIRMATIONS, help="further critiques of a candidate at most (8)")
    parser.add_argument(
        "--draft",
        type=float,
        metavar="AGREEMENT",
        help="with drafts: correlation of their scatter with renders (0 to 1)",
    )
    parser.add_argument(
        "--reject",
        type=float,
        metavar="OFF",
        help="with edits stopped early: deviation of an unfinished picture's scores (of 10)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the strategies under one judge here, as SVG")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print."""
    options = arguments(argv)
    judges = [
        *(Judge(noise) for noise in options.noise),
        *(Judge(1.0 if bias == "drifting" else 0.0, bias) for bias in options.bias),
    ]
    rows: list[Row] = []
    for strategy, judge, rules in itertools.product(options.strategy, judges, options.rules):
        both: list[Outcome] = []
        for kind in KINDS:
            chosen = {"confirmations": options.confirmations, "agreement": options.draft, "disagreement": options.reject}
            outcomes = list(sessions(rules, strategy, judge, kind, options.sessions, options.seed, **chosen))
            rows.append(summarize(rules, strategy, judge, kind, outcomes))
            both += outcomes
        rows.append(summarize(rules, strategy, judge, "both", both))
    Console(width=None if sys.stdout.isatty() else 150).print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    if options.picture:
        options.picture.write_text(draw(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
