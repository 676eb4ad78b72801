"""Hypothesis explores new examples on every local run, and runs the same examples in CI, which must be deterministic."""

from __future__ import annotations

import os

import stamina.instrumentation
from hypothesis import settings

# Retries are no events of their own in the product either, and drawing them takes longer than some tests have.
stamina.instrumentation.set_on_retry_hooks(())

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
