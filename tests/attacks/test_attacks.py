"""Every attack of the table in docs/security.md, against a real orchestrator that requires keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks import bodies, floods, heads
from tests.attacks.attack import Attack, judge
from tests.attacks.place import LARGEST, Place, place

pytestmark = pytest.mark.xdist_group("attacks")
ATTACKS = [*bodies.ATTACKS, *heads.ATTACKS, *floods.ATTACKS]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("attacks"), EDITTHINKER_MAX_IMAGE_BYTES=str(LARGEST)) as running:
        yield running


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_does_no_harm(attacked: Place, attack: Attack) -> None:
    """No 5xx, no leak, bounded memory and time, whole lines in the log, and a normal request is answered at once."""
    seen = judge(attacked, attack)

    assert not seen.faults, "\n".join(seen.faults[:10])
