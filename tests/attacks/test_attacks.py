"""Every attack of the table in docs/security.md, against a real orchestrator that requires keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks import bodies, floods, heads, texts
from tests.attacks.attack import Attack, judge
from tests.attacks.target import LARGEST, Target, target

pytestmark = pytest.mark.xdist_group("attacks")
# Texts first: a constraint of the thinker is only at risk until its first reply.
ATTACKS = [*texts.ATTACKS, *bodies.ATTACKS, *heads.ATTACKS, *floods.ATTACKS]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("attacks"), EDITTHINKER_MAX_IMAGE_BYTES=str(LARGEST)) as running:
        # Other tests share the machine, and large pictures are decoded in the time that nobody else wants; `make attacks`
        # measures on a machine that does nothing else.
        running.busy = 10
        yield running


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_does_no_harm_and_a_normal_request_is_answered_at_once(attacked: Target, attack: Attack) -> None:
    seen = judge(attacked, attack)

    assert not seen.faults, "\n".join(seen.faults[:10])
