"""When to try again: the ``Retry-After`` header, and exponential backoff."""

from __future__ import annotations

import email.utils
import random
from typing import Final

_MAX_DOUBLINGS: Final = 16
"""Bounds 2**failures, which would overflow a float after a long outage."""


def read_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, from the value of a ``Retry-After`` header: a number of seconds, or a date (RFC 9110, section 10.2.3).

    Args:
        value: the header's value, or None.
        now: Unix seconds.
    """
    try:
        return max(0.0, float(value or ""))
    except ValueError:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value or "").timestamp() - now)
        except (ValueError, OverflowError):
            return None


def backoff_s(failures: int, *, initial_s: float, max_s: float) -> float:
    """Seconds to wait after so many failures in a row before this one: exponential, with jitter of up to half of it."""
    return min(max_s, initial_s * 2.0 ** min(failures, _MAX_DOUBLINGS)) * random.uniform(0.5, 1.0)
