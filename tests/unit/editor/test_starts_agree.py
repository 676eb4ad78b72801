"""The same worker, started often on a noisy device, ends up with one throughput: that of batches where they pay.

``python -m tests.unit.editor.test_starts_agree 200`` starts so many, and prints what it found.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import pytest

from services.editor.engine import warmup
from services.editor.engine.cost_model import CostModel, Knot
from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines import Edit
from tests.doubles.clock import ManualTime, manual_time
from tests.unit.editor.test_cost_in_the_engine import Timed

STARTS, SETTLE, ACTIVE, BEHIND, CALLS = 12, 12, 8, 8, 9
SIDES = (16, 128)


@dataclass(frozen=True)
class Device:
    """A pass takes ``base_s`` and ``token_s`` for each token, and for those of each further edit a share more."""

    base_s: float
    token_s: float
    crowding: float = 0.0

    def pass_s(self, edits: int, tokens: float) -> float:
        return self.base_s + self.token_s * tokens * (1 + self.crowding * (edits - 1))

    def rate(self, side: int, edits: int) -> float:
        """Calls a second in passes of so many edits."""
        return edits / self.pass_s(edits, edits * side * side)


LAUNCHES = Device(0.1, 1e-6)
"""A pass of a small edit leaves it idle: eight together gain 7.9 and 4.0."""
FULL = Device(0.0, 1e-5, 0.03)
"""One edit fills it: batches of eight lose a sixth."""
HALF = Device(0.02, 1e-5)
"""As a GPU: small edits gain 4.5, large ones 1.1."""


class Noisy:
    """Measurements on a shared machine: most scatter by a tenth, and one in ten takes up to twenty times as long."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def __call__(self, seconds: float) -> float:
        return seconds * self._dice.uniform(0.9, 1.15) * (self._dice.uniform(1, 20) if self._dice.random() < 0.1 else 1.0)


class Simulated(Timed):
    """A pipeline on such a device, by a manual clock."""

    def __init__(self, clock: ManualTime, device: Device, noise: Callable[[float], float]) -> None:
        super().__init__(clock, max(SIDES), noise)
        self.device = device

    def advance(self, edits: Sequence[Edit]) -> None:
        start, before = not edits[0].started, self.clock.now()
        super().advance(edits)
        if not start:
            spent = self.clock.now() - before
            self.clock.advance(self.noise(self.device.pass_s(len(edits), sum(edit.cost for edit in edits))) - spent)


def serve(
    model: CostModel, device: Device, noise: Callable[[float], float], side: int, rounds: int
) -> tuple[CostModel, float, float]:
    """(the model after it, calls a second, edits in a pass) of so many fillings of the device, with others waiting behind."""
    tokens, calls, passes, took_s = side * side, 0, 0, 0.0
    for _ in range(rounds):
        left = [CALLS - place % 3 for place in range(ACTIVE)]
        while left:
            edits = 1
            while edits < len(left) and model.joins(edits, edits * tokens, tokens, len(left) + BEHIND - edits):
                edits += 1
            seconds = device.pass_s(edits, edits * tokens)
            model = model.observe(edits, edits * tokens, noise(seconds))
            calls, passes, took_s = calls + edits, passes + 1, took_s + seconds
            left = [call for place, each in enumerate(left) if (call := each - (place < edits))]
    return model, calls / took_s, calls / passes


def started(seed: int, device: Device, clock: ManualTime) -> CostModel:
    """The model of a worker's warm-up."""
    return warm_up(Simulated(clock, device, Noisy(seed)), OperatorLimits(ACTIVE, None)).model


def steady(seed: int, device: Device, clock: ManualTime) -> Mapping[int, tuple[float, float]]:
    """By side, what `serve` finds after `SETTLE` fillings, some 120 passes where batches form."""
    model, noise = started(seed, device, clock), Noisy(seed + 1000)
    found: dict[int, tuple[float, float]] = {}
    for side in SIDES:
        model, _, _ = serve(model, device, noise, side, SETTLE)
    for side in SIDES:
        model, rate, edits = serve(model, device, noise, side, 3)
        found[side] = (rate, edits)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualTime:
    return manual_time(monkeypatch, warmup)


@dataclass(frozen=True)
class Agreement:
    """What many starts have in common at one size.

    Attributes:
        spread: of the throughput, from the slowest to the fastest, as a share of the median.
        least: throughput of the slowest, as a share of the best there is.
        sizes: edits in a pass of each, sorted.
    """

    spread: float
    least: float
    sizes: Sequence[float]


def agreement(starts: int, device: Device, clock: ManualTime) -> Mapping[int, Agreement]:
    """By side, what so many starts have in common."""
    found = [steady(seed, device, clock) for seed in range(starts)]
    agreed: dict[int, Agreement] = {}
    for side in SIDES:
        rates, sizes = zip(*(start[side] for start in found), strict=True)
        best = max(device.rate(side, edits) for edits in range(1, ACTIVE + 1))
        agreed[side] = Agreement((max(rates) - min(rates)) / median(rates), min(rates) / best, sorted(sizes))
    return agreed


@pytest.mark.parametrize("device", [LAUNCHES, FULL, HALF], ids=["launches", "full", "half"])
def test_all_starts_come_to_one_throughput(device: Device, clock: ManualTime) -> None:
    """Within 15 % of each other at every size, and near the best: batches form where they pay, and hardly any elsewhere."""
    for agreed in agreement(STARTS, device, clock).values():
        assert agreed.spread < 0.15
        assert agreed.least > 0.84  # the last edits of a filling have few others to share a pass with
        if device is FULL:
            assert median(agreed.sizes) < 1.2 and agreed.sizes[-1] < 4


def test_where_batches_do_not_pay_a_quiet_device_makes_none(clock: ManualTime) -> None:
    """But for a trial now and then."""
    model = warm_up(Simulated(clock, FULL, lambda seconds: seconds), OperatorLimits(ACTIVE, None)).model
    model, _, _ = serve(model, FULL, lambda seconds: seconds, 128, 3)
    model, _, edits = serve(model, FULL, lambda seconds: seconds, 128, 20)
    assert edits < 1.01


def _recovers(model: CostModel, device: Device, side: int, fillings: int) -> None:
    """After so many fillings it is served as by a new worker."""
    noise = Noisy(1000)
    model, _, _ = serve(model, device, noise, side, fillings)
    _, rate, _ = serve(model, device, noise, side, 4)
    assert rate > 0.84 * max(device.rate(side, edits) for edits in range(1, ACTIVE + 1))


def _slower(noise: Noisy, factor: float) -> Callable[[float], float]:
    return lambda seconds: factor * noise(seconds)


@pytest.mark.parametrize("device", [LAUNCHES, HALF], ids=["launches", "half"])
def test_a_slow_period_does_not_stop_batching(device: Device, clock: ManualTime) -> None:
    """Everything takes five times as long for a while: a hot device, or a neighbour."""
    for seed in range(3):
        model, noise = started(seed, device, clock), Noisy(seed)
        hot = _slower(noise, 5)
        for side in SIDES:
            model, _, edits = serve(model, device, hot, side, 20)
            assert side == max(SIDES) or edits > 6
            _recovers(model, device, side, 10)


def test_passes_of_several_that_were_slow_for_a_while_do_not_stop_batching_for_ever(clock: ManualTime) -> None:
    """The worst that a neighbour can do: it works only while batches are measured."""
    for seed in range(3):
        model = started(seed, LAUNCHES, clock)
        for number in range(400):
            edits = number % 8 + 1
            model = model.observe(edits, edits * 32 * 32, LAUNCHES.pass_s(1, 32 * 32) * (1 if edits == 1 else 2 * edits))
        assert not model.joins(1, 32 * 32, 32 * 32, 8)
        _recovers(model, LAUNCHES, 32, 40)


def test_two_edits_at_a_time_find_out_that_they_may_share_passes() -> None:
    """One behind another is the least queue there is, and the marginal time must be well below one half."""
    model = CostModel.of([Knot(1000, 0.1, 1.5, marginal_variance=0.001)])
    shared = 0
    for _ in range(2000):
        edits = 2 if model.joins(1, 1000, 1000, 1) else 1
        shared = shared + 1 if edits == 2 else 0
        model = model.observe(edits, 1000 * edits, 0.1 * (1 + 0.1 * (edits - 1)))
    assert shared > 500


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        for name, device in (("launches", LAUNCHES), ("full", FULL), ("half", HALF)):
            for side, agreed in agreement(int(sys.argv[1]), device, manual_time(patch, warmup)).items():
                sys.stdout.write(
                    f"{name} {side}²: spread {agreed.spread:.3f}, slowest {agreed.least:.3f} of the best, "
                    f"edits in a pass {agreed.sizes[0]:.2f} / {median(agreed.sizes):.2f} / {agreed.sizes[-1]:.2f}\n"
                )
