"""A small run of `make chaos-net`, in half a minute, as part of every test run."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.fleet import Size
from tests.chaos.network import MOMENTS
from tests.chaos.run import Options, run

SEED = 13
# Timeouts that end a lost request within the time of a test.
SMALL = Size(orchestrators=2, editors=2, thinkers=1, lease_s=1.5, step_s=0.06, editor_timeout_s=6, thinker_timeout_s=4)
MAY_WAIT_S = 8.0
"""Far more than `make chaos-net` allows, since here the machine is busy with other tests; who is forgotten waits for minutes."""


async def test_twenty_sessions_survive_a_bad_network(tmp_path: Path) -> None:
    """Every chosen moment comes; nothing is lost, made twice or left waiting."""
    options = Options(
        sessions=20,
        seed=SEED,
        size=SMALL,
        open_sessions=5,
        every_s=0.6,
        havoc_s=18,
        give_up_after_s=240,
        whole_plan=True,
        may_wait_s=MAY_WAIT_S,
        network=True,
    )

    report = await run(tmp_path, options)

    assert [str(violation) for violation in report.violations] == []
    assert len(report.evidence.logs) == 20
    # The plan of this seed has all moments; when you change the plan, choose a seed that does.
    assert {moment.name for moment in MOMENTS} <= report.actions.keys()
    # Not every moment finds a session at its step, but most do.
    assert sum(report.met[moment.name] > 0 for moment in MOMENTS) > len(MOMENTS) / 2
    assert report.crashes == [], "processes ended without being told to"
