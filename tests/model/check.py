"""Runs the state machine on a world, and reports whether a law breaks."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.laws import InvariantError
from tests.model.machine import Protocol
from tests.model.world import World

_SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example)


def check(world: World, *, examples: int, steps: int = 50, derandomize: bool | None = None) -> None:
    """Explore; a failure is shrunk and printed as a program."""
    options = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=_SLOW)
    if derandomize is not None:
        options = settings(options, derandomize=derandomize, database=None)
    run_state_machine_as_test(_on(world), settings=options)


def breaks(world: World, *, examples: int, steps: int = 50) -> str:
    """Return how a broken variant fails within a fixed set of examples; "" if it is not detected."""
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=_SLOW,
    )
    try:
        run_state_machine_as_test(_on(world), settings=options)
    except InvariantError as found:
        return str(found)
    return ""


def _on(world: World) -> type[Protocol]:
    return type("Protocol", (Protocol,), {"world": world})
