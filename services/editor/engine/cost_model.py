"""What a pass over the device costs: seconds by the size of its edits and their number, refined from every pass.

A value without I/O or clock: `schedule` takes it as an argument, and the executor replaces it after each pass.
"""

# Theory of operation
# ===================
#
# A pass of n edits of c tokens each takes a + b n c seconds. With `alone_s` = a + b c and `marginal` = b c / alone_s this is
#
#     alone_s (1 + (n - 1) marginal)
#
# a and b are not the same at every size: attention grows with the square of c, and on a GPU a small pass takes as long as its
# kernels' launches. So there is a line for each size that was seen, a `Knot`. Between two knots `alone_s` is interpolated in
# logarithms, and `marginal` linearly in the logarithm of c; outside them the line of the nearest one goes on.
#
# Refinement: a Kalman filter for each knot. Its state is (log alone_s, marginal), its measurement the time of a pass. It is
# updated in seconds, in which the time is linear: in (log alone_s, marginal) a filter was certain of a time of one edit three
# times too long with a marginal time as much too short, as passes of eight cannot tell the two from each other.
# `alone_s` drifts (a device throttles, a neighbour comes and goes), `marginal` hardly does. So passes of one number of edits
# that all became slower change `alone_s`; only passes of different numbers, compared with each other, tell `marginal`. The noise
# is what passes of one number differ by. An error counts up to `_CLIP` standard deviations, so that a pass that took a hundred
# times as long moves little; `_CHANGED` such errors in a row are a device that has changed. It is the error of the time and not
# of its logarithm: where a step cache answers some passes, the mean is what a backlog is made of.
#
# Trials: passes alike in their number of edits tell nothing about `marginal`, so its variance grows with each of them. After
# `_TRIAL` passes of one edit a batch is formed if it would pay with `marginal` `_TRIAL_DEVIATIONS` standard deviations lower;
# after as many alike of several, none is if it would not pay with `marginal` as much higher. That settles it: the next trial is
# hundreds of passes away, and the farther the more it costs. So no measurement, at the start or later, decides for the life of
# a process.

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace

_ALONE_DRIFT = 1 / 256
"""Variance that ``log alone_s`` gains in a pass, in that of the noise: a pass then weighs a sixteenth, once much is known."""
_MARGINAL_DRIFT = 1e-5
_DOUBT = 1 + 1 / 256
"""Factor of the variance of ``marginal`` in a pass of as many edits as the last one."""
_TRIAL_DEVIATIONS = 2.0
_TRIAL = 16
_CLIP = 2.0
_LEAST_CLIP = 0.5
"""The bound of an error, as a share of the predicted time, where less is known than the noise explains."""
_CHANGED = 5
"""Errors beyond the bound in a row, in one direction, after which it is the device that has changed."""
_NOISE_GAIN = 1 / 32
_NOISE = (0.02, 0.1)
"""Least noise of a pass, as a share of its time, and what is assumed at first."""
_MOST_ERROR = 1.0
"""Difference of two passes in the estimate of the noise."""
_DEVIATION_OF_DIFFERENCE = 0.9
"""Standard deviation of a normal value, in the mean difference of two."""
_MARGINAL = (0.0, 1.5)
_MARGINAL_VARIANCE = (1e-3, 0.25)
_NEW_VARIANCE = (0.1, 0.04)
"""Of ``log alone_s`` and of ``marginal`` at a size that is interpolated."""
_CHANGED_VARIANCE = 0.25
_SPACING = 0.5
"""Octaves of tokens within which sizes share a knot."""
_ENDS_GAIN = 1 / 16
_LEAST_S = 1e-6
_LEAST_SCALE = 0.25
_MIN_SAVING = 0.1
"""Share of an edit alone that joining a pass must save to pay: its edits wait for one another."""


@dataclass(frozen=True, slots=True)
class Knot:
    """The line of one size, and how well it is known.

    Attributes:
        tokens: of one edit.
        alone_s: seconds of a pass of one edit.
        marginal: what one more edit adds to a pass, as a share of ``alone_s``.
        ends_s: seconds of encoding and decoding of one edit.
        alone_variance, marginal_variance, covariance: of the errors of ``log alone_s`` and ``marginal``.
        noise: standard deviation of a pass, as a share of its time.
        last: edits in the last pass, and its error.
        alike: passes of as many edits in a row.
        surprises: errors beyond the bound in a row; negative for passes that were too fast.
    """

    tokens: float
    alone_s: float
    marginal: float = 1.0
    ends_s: float = 0.0
    alone_variance: float = 0.0
    marginal_variance: float = 0.0
    covariance: float = 0.0
    noise: float = _NOISE[1]
    last: tuple[int, float] = (0, 0.0)
    alike: int = 0
    surprises: int = 0

    def pass_s(self, edits: int) -> float:
        """Seconds of one pass of so many edits of this size."""
        return self.alone_s * (1 + (edits - 1) * self.marginal)

    @property
    def marginal_deviation(self) -> float:
        """Standard deviation of ``marginal``."""
        return math.sqrt(self.marginal_variance)

    def doubted(self, sign: int) -> Knot:
        """The line with a marginal time as much lower (-1) or higher (1) as a trial supposes."""
        return replace(self, marginal=max(0.0, self.marginal + sign * _TRIAL_DEVIATIONS * self.marginal_deviation))

    def observed(self, edits: int, error: float) -> Knot:
        """The line after a pass of so many edits, whose time differed from the predicted one by this share of it."""
        noise = self.noise**2
        alone, marginal, both = self.alone_variance + _ALONE_DRIFT * noise, self.marginal_variance, self.covariance
        alike = edits == self.last[0]
        doubt = _DOUBT if alike and marginal < _MARGINAL_VARIANCE[1] else 1.0
        marginal, both = max(_MARGINAL_VARIANCE[0], doubt * marginal + _MARGINAL_DRIFT * noise), math.sqrt(doubt) * both
        # In seconds, as shares of `alone_s`, the time is linear in what one edit takes and what each more adds.
        added, both = marginal + self.marginal * (2 * both + self.marginal * alone), both + self.marginal * alone
        more, size = edits - 1, 1 + (edits - 1) * self.marginal
        alone_share, added_share = (alone + more * both) / size, (both + more * added) / size
        variance = (alone_share + more * added_share) / size + noise
        # What exceeds the bound is taken for noise of this pass.
        bound = min(_CLIP * math.sqrt(variance), max(_LEAST_CLIP, _CLIP * self.noise))
        variance *= max(1.0, abs(error) / bound)
        # Of two passes alike: an estimate that is wrong is no noise.
        spread = _DEVIATION_OF_DIFFERENCE * min(_MOST_ERROR, abs(error - self.last[1]))
        known = self.noise + _NOISE_GAIN * (spread - self.noise) if alike else self.noise
        surprises = _row(self.surprises, error, bound)
        if abs(surprises) >= _CHANGED:
            return replace(self, alone_variance=_CHANGED_VARIANCE, covariance=0.0, surprises=0).observed(edits, error)
        scale = max(_LEAST_SCALE, 1 + alone_share / variance * error)
        line = _within(_MARGINAL, (self.marginal + added_share / variance * error) / scale)
        alone = (alone - alone_share**2 / variance) / scale**2
        added = (added - added_share**2 / variance) / scale**2
        both = (both - alone_share * added_share / variance) / scale**2
        return replace(
            self,
            alone_s=max(_LEAST_S, self.alone_s * scale),
            marginal=line,
            alone_variance=alone,
            marginal_variance=max(0.0, added - line * (2 * both - line * alone)),
            covariance=both - line * alone,
            noise=max(_NOISE[0], known),
            last=(edits, error),
            alike=self.alike + 1 if alike else 1,
            surprises=surprises,
        )


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of passes and edits. Make one with `CostModel.of`.

    Attributes:
        knots: at least one, by size.
    """

    knots: tuple[Knot, ...]

    @classmethod
    def of(cls, knots: Iterable[Knot]) -> CostModel:
        """The model of some sizes, which should be half an octave apart or more."""
        return cls(tuple(sorted(knots, key=lambda knot: knot.tokens)))

    def at(self, tokens: float) -> Knot:
        """The line of edits of so many tokens."""
        tokens = max(1.0, tokens)
        after = bisect_left(self.knots, tokens, key=lambda knot: knot.tokens)
        if after == 0 or after == len(self.knots):
            return _continued(self.knots[0 if after == 0 else -1], tokens)
        low, high = self.knots[after - 1], self.knots[after]
        share = math.log(tokens / low.tokens) / math.log(high.tokens / low.tokens)
        nearest = low if share < 1 / 2 else high
        return Knot(
            tokens,
            low.alone_s ** (1 - share) * high.alone_s**share,
            _between(low.marginal, high.marginal, share),
            _between(low.ends_s, high.ends_s, share),
            marginal_variance=_between(low.marginal_deviation, high.marginal_deviation, share) ** 2,
            last=nearest.last,
            alike=nearest.alike,
        )

    def pass_s(self, edits: int, tokens: float) -> float:
        """Seconds of one pass of so many edits, which have so many tokens together."""
        return self.at(tokens / edits).pass_s(edits)

    def joins(self, edits: int, tokens: float, added: float, behind: int) -> bool:
        """Whether one more edit, of ``added`` tokens, should join a pass of so many edits that have ``tokens`` together.

        Each of those in the pass is delayed by what the new one adds to it; the new one and those behind it, ``behind`` in all,
        are done earlier by what it would have taken alone, less that.
        """
        line = self.at(tokens / edits)
        longer = self.at((tokens + added) / (edits + 1))
        if line.alike >= _TRIAL:
            sign = -1 if line.last[0] == 1 else 1
            line, longer = line.doubted(sign), longer.doubted(sign)
        alone_s = self.at(added).alone_s
        delay_s = max(0.0, longer.pass_s(edits + 1) - line.pass_s(edits))
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
        knots[place] = knots[place].observed(edits, seconds / line.pass_s(edits) - 1)
        return CostModel(tuple(knots))

    def observe_ends(self, tokens: float, seconds: float) -> CostModel:
        """The model after encoding and decoding of an edit of so many tokens took so long."""
        line = self.at(tokens)
        knots, place = self._with_knot(line)
        knot = knots[place]
        # At most twice as much as before, so that one that compiled is soon forgotten.
        bounded = min(seconds, (1 + 1 / _ENDS_GAIN) * max(line.ends_s, line.alone_s))
        knots[place] = replace(knot, ends_s=max(0.0, knot.ends_s + _ENDS_GAIN * (bounded - line.ends_s)))
        return CostModel(tuple(knots))

    def _with_knot(self, line: Knot) -> tuple[list[Knot], int]:
        """The knots with one near a size, and its index."""
        knots = list(self.knots)
        place = min(range(len(knots)), key=lambda index: abs(math.log2(knots[index].tokens / line.tokens)))
        if abs(math.log2(knots[place].tokens / line.tokens)) <= _SPACING:
            return knots, place
        place = bisect_left(knots, line.tokens, key=lambda knot: knot.tokens)
        alone, marginal = _NEW_VARIANCE
        fresh = Knot(line.tokens, line.alone_s, line.marginal, line.ends_s, alone, max(marginal, line.marginal_variance))
        knots.insert(place, fresh)
        return knots, place


def _continued(knot: Knot, tokens: float) -> Knot:
    """The line of a knot at another size."""
    variable = min(1.0, knot.marginal) * tokens / knot.tokens
    grown = 1 - min(1.0, knot.marginal) + variable
    marginal = max(1.0, knot.marginal) * variable / grown
    return replace(knot, tokens=tokens, alone_s=knot.alone_s * grown, marginal=marginal, ends_s=knot.ends_s * grown)


def _row(surprises: int, error: float, bound: float) -> int:
    """The errors beyond the bound in a row, after one more error."""
    if abs(error) < bound:
        return 0
    sign = 1 if error > 0 else -1
    return surprises + sign if surprises * sign > 0 else sign


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _within(bounds: tuple[float, float], value: float) -> float:
    return max(bounds[0], min(bounds[1], value))
