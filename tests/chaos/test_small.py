"""The small run that is part of every test run: `make chaos` in half a minute."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.fleet import Size
from tests.chaos.run import Options, run

SEED = 1511
SMALL = Size(orchestrators=2, editors=2, thinkers=1, lease_s=1.5)


async def test_forty_sessions_survive_everything(tmp_path: Path) -> None:
    """Orchestrators, editors, HAProxy and Redis are killed or stopped in the middle of them; nothing is lost or done twice."""
    options = Options(
        sessions=40, seed=SEED, size=SMALL, open_sessions=10, every_s=1.7, havoc_s=14, patience_s=60, whole_plan=True
    )

    report = await run(tmp_path, options)

    assert [str(violation) for violation in report.violations] == []
    assert len(report.evidence.logs) == 40
    # The plan of this seed has all of them; a change of the plan may need another seed.
    assert sum(report.actions.values()) >= 8
    assert {"kill redis", "kill orchestrator", "zombie orchestrator", "kill editor"} <= report.actions.keys()
    assert report.fell == [], "processes ended though nobody had asked them to"
