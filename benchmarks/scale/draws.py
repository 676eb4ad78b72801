"""What the stubs do, drawn from a seed and the words of the request: the same work takes as long whoever asks for it."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

MOST_TURNS: Final = 6
"""One more than any session needs, so that each ends satisfied, and the way that never critiques its last picture has as
many critiques to ask for as the other."""
_WISH: Final = re.compile(rb"wish (\d+)(?: take (\d+))?")
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Wish:
    """An instruction of the benchmark: whose, and of which turn."""

    number: int
    take: int = 1

    def __str__(self) -> str:
        return f"wish {self.number}" if self.take == 1 else f"wish {self.number} take {self.take}"


def last_wish(body: bytes) -> Wish:
    """The latest instruction in a request; pictures in base64 have no blanks, so they are passed over quickly."""
    found, at = Wish(0, 0), 0
    while (at := body.find(b"wish ", at)) >= 0:
        if match := _WISH.match(body, at):
            found = max(found, Wish(int(match[1]), int(match[2] or 1)), key=lambda wish: wish.take)
        at += 5
    if not found.take:
        raise ValueError("the request has no wish in it")
    return found


@dataclass(frozen=True, slots=True)
class Draws:
    """Times and scores.

    Attributes:
        seed: another seed, other times.
        scale: 1 is real time; below it everything is that much shorter.
        median_s, sigma: of an edit, log-normal, cut to `low_s` and `high_s`.
    """

    seed: int = 1
    scale: float = 1.0
    median_s: float = 2.5
    sigma: float = 0.55
    low_s: float = 1.0
    high_s: float = 8.0

    def edit_s(self, wish: Wish) -> float:
        """Seconds an edit keeps a slot."""
        drawn = self.median_s * math.exp(self.sigma * _NORMAL.inv_cdf(self._share("edit", str(wish))))
        return self.scale * min(max(drawn, self.low_s), self.high_s)

    def critique_s(self, wish: Wish) -> float:
        """Seconds a critique takes: 0.3 to 1."""
        return self.scale * (0.3 + 0.7 * self._share("critique", str(wish)))

    def turns(self, number: int) -> int:
        """Turns after which a session is satisfied: 2 to 5."""
        return 2 + int(4 * self._share("turns", str(number)))

    def critique(self, wish: Wish) -> str:
        """The thinker's words: better every turn, and good enough in the last."""
        done = wish.take >= self.turns(wish.number)
        semantic = 9 if done else 3 + wish.take
        answer = Wish(wish.number, wish.take + 1)
        return f'<think>so far</think><score>{{"semantic": {semantic}, "quality": 9}}</score><answer>{answer}</answer>'

    def mean_session_s(self, numbers: range) -> float:
        """Slot-seconds of a session, the mean over these."""
        each = (self.edit_s(Wish(number, 1 + turn)) for number in numbers for turn in range(self.turns(number)))
        return sum(each) / len(numbers)

    def _share(self, what: str, text: str) -> float:
        """A number between 0 and 1, both excluded."""
        digest = hashlib.blake2b(f"{self.seed} {what} {text}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") + 0.5) / 2**64
