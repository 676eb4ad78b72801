"""What a pass over the device costs: seconds by the size of its edits and their number, refined from every pass.

A value without I/O or clock: `schedule` takes it as an argument, and the executor replaces it after each pass.
"""

# Theory of operation
# ===================
#
# A pass of n edits of c tokens each takes a + b n c seconds. With `alone` = a + b c and `marginal` = b c / alone this is
#
#     alone(c) (1 + (n - 1) marginal(c))
#
# a and b are not the same at every size: attention grows with the square of c, and on a GPU a small pass takes as long as its
# kernels' launches. So there is a line for each size that was seen, a `Knot`. Between two knots `alone` is interpolated in
# logarithms, and `marginal` linearly in the logarithm of c; outside them the line of the nearest one goes on. Both grow with
# the size, so a pass never gets cheaper by more edits or larger ones.
#
# Refinement: the error of a prediction, as a logarithm and at most `_CLIP`, times a gain that begins at one half and ends at
# `_GAIN`, is divided between `alone` and `marginal` as the time depends on each (a normalized LMS filter). So one pass that took
# a hundred times as long moves an estimate by 3 %. After `_SHIFTED` such errors in a row, all in one direction, it is the device
# that has changed, and the gain begins at one half again.
#
# A size that is never batched shows nothing about its marginal time. So each of its passes of one edit brings a marginal time
# above `_TRIED` nearer to that, by 1/256 of the distance: a wrong one is tried again when enough requests are behind, and where
# it was right, a pass or two correct it.

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

_GAIN = 1 / 16
"""Least weight of a pass. Measurements that scatter by 10 % then scatter the estimate by less than 2 %."""
_CLIP = 0.5
_SHIFTED = 5
_RETURN = 1 / 256
_TRIED = 0.5
_MARGINAL_UNIT = 0.6
"""A change of ``marginal`` that is as likely as one of ``alone_s`` by a factor of e."""
_SPACING = 0.5
"""Octaves of tokens within which sizes share a knot."""
_MARGINAL = (0.01, 1.25)
_LEAST_S = 1e-6
_MIN_SAVING = 0.03
"""Share of an edit alone that joining a pass must save to pay: less than that is below what is measured."""
_COST_SLACK = 1.25
"""How far a pass may exceed the measured tokens: sources differ in shape, and prompts in length."""
_RECOVERY_PASSES = 64
_MAX_RECOVERY_PASSES = 4096
_GROWTH = 1.125


@dataclass(frozen=True, slots=True)
class Knot:
    """The line of one size.

    Attributes:
        tokens: of one edit.
        alone_s: seconds of a pass of one edit.
        marginal: what one more edit adds to a pass, as a share of ``alone_s``.
        ends_s: seconds of encoding and decoding of one edit.
        passes: how many were observed; from 0 again when the device has changed.
        clipped: errors above the bound in a row; negative for passes that were too fast.
    """

    tokens: float
    alone_s: float
    marginal: float
    ends_s: float
    passes: int = 0
    clipped: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the warm-up measured at one size: see `Knot`."""

    tokens: float
    alone_s: float
    marginal: float = 1.0
    ends_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of passes and edits. Make one with `fit`.

    Attributes:
        knots: at least one, by size; ``alone_s``, ``marginal`` and ``ends_s`` do not decrease.
    """

    knots: tuple[Knot, ...]

    def at(self, tokens: float) -> Knot:
        """The line of edits of so many tokens."""
        tokens = max(1.0, tokens)
        after = bisect_left(self.knots, tokens, key=lambda knot: knot.tokens)
        if after == 0 or after == len(self.knots):
            return _continued(self.knots[0 if after == 0 else -1], tokens)
        low, high = self.knots[after - 1], self.knots[after]
        share = math.log(tokens / low.tokens) / math.log(high.tokens / low.tokens)
        marginal = _between(low.marginal, high.marginal, share)
        ends_s = _between(low.ends_s, high.ends_s, share)
        return Knot(tokens, low.alone_s ** (1 - share) * high.alone_s**share, marginal, ends_s)

    def pass_s(self, edits: int, tokens: float) -> float:
        """Seconds of one pass of so many edits, which have so many tokens together."""
        line = self.at(tokens / edits)
        return line.alone_s * (1 + (edits - 1) * line.marginal)

    def joins(self, edits: int, tokens: float, added: float, behind: int) -> bool:
        """Whether one more edit, of ``added`` tokens, should join a pass of so many edits that have ``tokens`` together.

        Each of those in the pass is delayed by what the new one adds to it; the new one and those behind it, ``behind`` in all,
        are done earlier by what it would have taken alone, less that.
        """
        alone_s = self.at(added).alone_s
        delay_s = max(0.0, self.pass_s(edits + 1, tokens + added) - self.pass_s(edits, tokens))
        saved_s = alone_s - delay_s
        return saved_s > _MIN_SAVING * alone_s and behind * saved_s > edits * delay_s

    def work_s(self, tokens: float, calls: int, *, started: bool = False) -> float:
        """Seconds that an edit with so many calls left would take alone."""
        line = self.at(tokens)
        return calls * line.alone_s + (0.0 if started else line.ends_s)

    def observe(self, edits: int, tokens: float, seconds: float) -> CostModel:
        """The model after a pass of so many edits, which have so many tokens together, took so long."""
        line = self.at(tokens / edits)
        knots, place = self._with_knot(line)
        knot = knots[place]
        error = _error(seconds, line.alone_s * (1 + (edits - 1) * line.marginal))
        step = max(_GAIN, 1 / (2 + knot.passes)) * error
        # The derivatives of the predicted logarithm are 1 by log(alone_s), and this by `marginal` in its unit.
        slope = _MARGINAL_UNIT * (edits - 1) / (1 + (edits - 1) * knot.marginal)
        step /= 1 + slope**2
        marginal = knot.marginal + _MARGINAL_UNIT * slope * step
        if edits == 1:
            marginal -= _RETURN * max(0.0, marginal - _TRIED)
        clipped = _row(knot.clipped, error)
        shifted = abs(clipped) == _SHIFTED
        knots[place] = replace(
            knot,
            alone_s=max(_LEAST_S, knot.alone_s * math.exp(step)),
            marginal=_clamped(marginal),
            passes=0 if shifted else knot.passes + 1,
            clipped=0 if shifted else clipped,
        )
        return CostModel(_growing(knots, place))

    def observe_ends(self, tokens: float, seconds: float) -> CostModel:
        """The model after encoding and decoding of an edit of so many tokens took so long."""
        line = self.at(tokens)
        knots, place = self._with_knot(line)
        knot = knots[place]
        step = _GAIN * _error(seconds, line.ends_s)
        knots[place] = replace(knot, ends_s=max(_LEAST_S, knot.ends_s) * math.exp(step))
        return CostModel(_growing(knots, place))

    def _with_knot(self, line: Knot) -> tuple[list[Knot], int]:
        """The knots with one near a size, and its index."""
        knots = list(self.knots)
        place = min(range(len(knots)), key=lambda index: abs(math.log2(knots[index].tokens / line.tokens)))
        if abs(math.log2(knots[place].tokens / line.tokens)) <= _SPACING:
            return knots, place
        place = bisect_left(knots, line.tokens, key=lambda knot: knot.tokens)
        knots.insert(place, line)
        return knots, place


def fit(measurements: list[Measurement]) -> CostModel:
    """The model of a warm-up. Sizes within half an octave of each other should be measured once."""
    knots = [
        Knot(max(1.0, one.tokens), max(_LEAST_S, one.alone_s), _clamped(one.marginal), max(0.0, one.ends_s), passes=1)
        for one in sorted(measurements, key=lambda one: one.tokens)
    ]
    # The largest size takes longest, so it is measured best.
    for place in reversed(range(len(knots))):
        knots = list(_growing(knots, place))
    return CostModel(tuple(knots))


def _continued(knot: Knot, tokens: float) -> Knot:
    """The line of a knot at another size."""
    variable = min(1.0, knot.marginal) * tokens / knot.tokens
    grown = 1 - min(1.0, knot.marginal) + variable
    return Knot(tokens, knot.alone_s * grown, max(1.0, knot.marginal) * variable / grown, knot.ends_s * grown)


def _growing(knots: list[Knot], place: int) -> tuple[Knot, ...]:
    """The knots with those of smaller sizes at most, and those of larger ones at least, as slow as the one that has changed."""
    pivot = knots[place]

    def bounded(knot: Knot, index: int) -> Knot:
        limit = min if index < place else max
        return replace(
            knot,
            alone_s=limit(knot.alone_s, pivot.alone_s),
            marginal=limit(knot.marginal, pivot.marginal),
            ends_s=limit(knot.ends_s, pivot.ends_s),
        )

    return tuple(knot if index == place else bounded(knot, index) for index, knot in enumerate(knots))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _error(seconds: float, predicted: float) -> float:
    return max(-_CLIP, min(_CLIP, math.log(max(_LEAST_S, seconds) / max(_LEAST_S, predicted))))


def _row(clipped: int, error: float) -> int:
    """The errors at the bound in a row, after one more error."""
    if abs(error) < _CLIP:
        return 0
    sign = 1 if error > 0 else -1
    return clipped + sign if clipped * sign > 0 else sign


def _clamped(marginal: float) -> float:
    return max(_MARGINAL[0], min(_MARGINAL[1], marginal))


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """Tokens of one pass of several edits that fit into memory. Make one with `TokenLimit.measured`.

    It is lowered when memory runs out, and rises again by an eighth after `_RECOVERY_PASSES` passes, twice as many after each
    further time that memory ran out.

    Attributes:
        tokens: the limit; None: any number.
        most: what it rises to; None: any number.
        failed: tokens that did not fit the last time.
        patience: passes before it rises.
        passes: since it last changed.
    """

    tokens: int | None
    most: int | None
    failed: int = 0
    patience: int = _RECOVERY_PASSES
    passes: int = 0

    @classmethod
    def measured(cls, tokens: int | None) -> TokenLimit:
        """The limit where so many tokens were seen to fit; None: no limit."""
        limit = None if tokens is None else int(_COST_SLACK * tokens)
        return cls(limit, limit)

    def after_out_of_memory(self, tokens: int) -> TokenLimit:
        """The limit after a pass of so many tokens did not fit: half of them, with the slack of a measured limit."""
        lowered = max(1, min(tokens - 1, int(_COST_SLACK * tokens / 2)))
        lowered = lowered if self.most is None else min(lowered, self.most)
        patience = self.patience if not self.failed else min(2 * self.patience, _MAX_RECOVERY_PASSES)
        return TokenLimit(lowered, self.most, tokens, patience)

    def after_pass(self) -> TokenLimit:
        """The limit after a pass that fitted."""
        if self.tokens == self.most or self.tokens is None:
            return self
        if self.passes + 1 < self.patience:
            return replace(self, passes=self.passes + 1)
        raised = math.ceil(self.tokens * _GROWTH)
        if self.most is None:
            return replace(self, tokens=None if raised >= self.failed else raised, passes=0)
        return replace(self, tokens=min(raised, self.most), passes=0)
