"""How many tokens one pass of several edits may have: as many as were seen to fit, fewer after memory ran out, and more again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_SLACK = 1.25
"""How far a pass may exceed the measured tokens: sources differ in shape, and prompts in length."""
_RECOVERY_PASSES = 64
_MAX_RECOVERY_PASSES = 4096
_GROWTH = 1.125


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """Tokens of one pass of several edits that fit into memory. Make one with `TokenLimit.measured`.

    It is lowered when memory runs out, and rises again by an eighth after `_RECOVERY_PASSES` passes. It waits for twice as many
    after each further time that memory ran out, until a pass fits that did not.

    Attributes:
        tokens: the limit; None: any number.
        most: what it rises to; None: any number.
        failed: tokens that did not fit the last time; 0 once as many have fitted.
        patience: passes before it rises.
        passes: since it last changed.
    """

    tokens: int | None
    most: int | None
    failed: int = 0
    patience: int = _RECOVERY_PASSES
    passes: int = 0

    @classmethod
    def measured(cls, tokens: int | None, most: int | None = None) -> TokenLimit:
        """The limit where so many tokens were seen to fit; None: no limit.

        Args:
            most: tokens up to which it may rise, where more were not tried (default: ``tokens``).
        """
        if tokens is None:
            return cls(None, None)
        return cls(int(_SLACK * tokens), int(_SLACK * max(tokens, most or 0)))

    def after_out_of_memory(self, tokens: int) -> TokenLimit:
        """The limit after a pass of so many tokens did not fit: half of them, with the slack of a measured limit."""
        lowered = max(1, min(tokens - 1, int(_SLACK * tokens / 2)))
        lowered = lowered if self.most is None else min(lowered, self.most)
        patience = self.patience if not self.failed else min(2 * self.patience, _MAX_RECOVERY_PASSES)
        return TokenLimit(lowered, self.most, tokens, patience)

    def after_pass(self, tokens: int) -> TokenLimit:
        """The limit after a pass of several edits, of so many tokens together, fitted."""
        if self.failed and tokens >= self.failed:  # what took the memory is gone
            return replace(self, failed=0, patience=_RECOVERY_PASSES).after_pass(tokens)
        if self.tokens == self.most or self.tokens is None:
            return self
        if self.passes + 1 < self.patience:
            return replace(self, passes=self.passes + 1)
        raised = math.ceil(self.tokens * _GROWTH)
        if self.most is None:
            return replace(self, tokens=None if raised > self.failed else raised, passes=0)
        return replace(self, tokens=min(raised, self.most), passes=0)
