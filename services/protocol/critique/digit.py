"""A score from one token: the expected value over the probabilities of the digits 0 to 5.

Edit-R1 (PKU-YuanGroup/Edit-R1, UniWorld-V2) reads it from a model's logits; over an API ``logprobs`` of the first token hold the
same. It costs one token, needs no training, and is continuous. Those digits that the server does not list count as impossible.
"""

from __future__ import annotations

import math
from typing import Final

from services.protocol.critique.constraints import Choice
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.messages import Unparseable
from services.protocol.critique.replies import Reply
from services.protocol.critique.scores import Rating

DIGITS: Final = "012345"
LEAST: Final = 0.5
"""Probability that all digits must have together: below it the model would answer with something else."""
_ABOVE_ONE: Final = 0.02
"""By how much probabilities may sum to more than 1: servers round, and report float16."""
FIX: Final = (
    "the server reported no logprobs for the first token; use a server that does (vLLM with --max-logprobs 20), or another format"
)


class DigitFormat(ReplyFormat[Rating]):
    """One digit, read with its alternatives; a JSON schema cannot describe it."""

    name = "digit"

    def __init__(self) -> None:
        super().__init__((Choice(tuple(DIGITS)),))

    def form(self) -> str:
        """The digit."""
        return f"one digit from {DIGITS[0]} to {DIGITS[-1]}"

    def render(self, value: Rating) -> str:
        """The nearest digit; the score itself is in the probabilities."""
        return str(round(value.score / 10 * (len(DIGITS) - 1)))

    def parse(self, reply: Reply) -> Rating | Unparseable:
        """Read the probabilities of the digits; the text says nothing more."""
        if reply.refusal or reply.finish_reason == "content_filter":
            return Unparseable("refusal", reply.refusal[:200] or "the server's content filter stopped the reply")
        if reply.first_tokens is None:
            return Unparseable("no_logprobs", FIX)
        shares = dict.fromkeys(DIGITS, 0.0)
        for token, logprob in reply.first_tokens:
            digit = token.strip()
            if len(digit) != 1 or digit not in shares:
                continue
            if not logprob <= _ABOVE_ONE:  # NaN too
                return Unparseable("wrong_shape", "a logprob is none")
            shares[digit] += math.exp(logprob)
        total = math.fsum(shares.values())
        if total > 1 + _ABOVE_ONE:
            return Unparseable("wrong_shape", f"the digits have a probability of {total:.2f} together")
        if total < LEAST:
            detail = (
                f"the digits have a probability of {total:.2f} together; turn off what the model writes first, as its thoughts"
            )
            return Unparseable("missing_scores", detail)
        expected = math.fsum(int(digit) * share for digit, share in shares.items()) / total
        likely = ", ".join(f"{digit} ({share / total:.0%})" for digit, share in shares.items() if share / total >= _SHOWN)
        score = min(10.0, max(0.0, expected * 10 / (len(DIGITS) - 1)))
        return Rating(round(score, 3), f"{expected:.2f} of {DIGITS[-1]} expected: {likely}")


_SHOWN: Final = 0.05
DIGIT: Final = DigitFormat()
