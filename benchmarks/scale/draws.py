"""Times and scores of the stubs, drawn from a seed and the text of the request, so that every run has the same ones."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

MOST_TURNS: Final = 6
"""One more than any session needs, so that each ends satisfied. The reference never critiques its last picture; so both ways
make the same number of critiques."""
_STEP: Final = re.compile(rb"wish (\d+)(?: take (\d+))?")
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction of the benchmark: the session's number and its turn. Its text seeds the draws, so it must not change."""

    number: int
    take: int = 1

    def __str__(self) -> str:
        return f"wish {self.number}" if self.take == 1 else f"wish {self.number} take {self.take}"


def last_step(body: bytes) -> Step:
    """Find the latest instruction in a request. Pictures in base64 have no spaces, so they are skipped quickly."""
    found, at = Step(0, 0), 0
    while (at := body.find(b"wish ", at)) >= 0:
        if match := _STEP.match(body, at):
            found = max(found, Step(int(match[1]), int(match[2] or 1)), key=lambda step: step.take)
        at += 5
    if not found.take:
        raise ValueError("the request has no instruction")
    return found


@dataclass(frozen=True, slots=True)
class Draws:
    """Times and scores.

    Attributes:
        seed: seed of all times.
        scale: 1 is real time; smaller values shorten everything.
        median_s, sigma: of an edit, log-normal, cut to `low_s` and `high_s`.
    """

    seed: int = 1
    scale: float = 1.0
    median_s: float = 2.5
    sigma: float = 0.55
    low_s: float = 1.0
    high_s: float = 8.0

    def edit_s(self, step: Step) -> float:
        """Seconds that an edit occupies a slot."""
        drawn = self.median_s * math.exp(self.sigma * _NORMAL.inv_cdf(self._share("edit", str(step))))
        return self.scale * min(max(drawn, self.low_s), self.high_s)

    def critique_s(self, step: Step) -> float:
        """Seconds a critique takes: 0.3 to 1."""
        return self.scale * (0.3 + 0.7 * self._share("critique", str(step)))

    def turns(self, number: int) -> int:
        """Turns after which a session is satisfied: 2 to 5."""
        return 2 + int(4 * self._share("turns", str(number)))

    def critique(self, step: Step) -> str:
        """The thinker's reply: the score rises every turn, and satisfies in the last."""
        done = step.take >= self.turns(step.number)
        semantic = 9 if done else 3 + step.take
        answer = Step(step.number, step.take + 1)
        return f'<think>so far</think><score>{{"semantic": {semantic}, "quality": 9}}</score><answer>{answer}</answer>'

    def mean_session_s(self, numbers: range) -> float:
        """Mean slot-seconds of these sessions."""
        each = (self.edit_s(Step(number, 1 + turn)) for number in numbers for turn in range(self.turns(number)))
        return sum(each) / len(numbers)

    def _share(self, what: str, text: str) -> float:
        """A number in the open interval from 0 to 1."""
        digest = hashlib.blake2b(f"{self.seed} {what} {text}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") + 0.5) / 2**64
