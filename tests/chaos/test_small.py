"""A small run of `make chaos`, in a minute, as part of every test run."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.fleet import Size
from tests.chaos.run import Options, run

SEED = 3984
SMALL = Size(orchestrators=2, editors=2, thinkers=1, lease_s=1.5)


async def test_two_dozen_sessions_survive_everything(tmp_path: Path) -> None:
    """Orchestrators, editors, HAProxy and Redis are killed or paused in between, a session kills its drivers, and a clock jumps.

    Nothing is lost or recorded twice.
    """
    options = Options(
        sessions=24,
        seed=SEED,
        size=SMALL,
        open_sessions=8,
        every_s=1.7,
        havoc_s=16,
        give_up_after_s=240,
        whole_plan=True,
        poisoned=1,
    )

    report = await run(tmp_path, options)

    assert [str(violation) for violation in report.violations] == []
    assert len(report.evidence.logs) == 24
    # The plan of this seed has all actions; when you change the plan, choose a seed that does.
    assert sum(report.actions.values()) >= 8
    assert {"kill redis", "kill orchestrator", "zombie orchestrator", "kill editor", "skew orchestrator"} <= report.actions.keys()
    assert 1 <= report.poisoned <= 3
    assert report.crashes == [], "processes ended without being told to"
