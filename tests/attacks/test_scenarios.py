"""The light scenarios of docs/security.md: a tenant attacks, and the bounds of memory, time and storage hold."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.attacks.arena import Arena, arena
from tests.attacks.scenario import Scenario, play
from tests.attacks.scenarios import SETTINGS, WITH_KEYS, WITHOUT_KEYS

pytestmark = [
    pytest.mark.xdist_group("scenarios"),
    pytest.mark.skipif("EDITTHINKER_SCENARIOS" not in os.environ, reason="`make attacks` runs them: they time another tenant"),
]
ALLOWANCE_S = 5.0
"""Of another tenant's p95, where other tests share the processors; `make attacks` is stricter."""


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("arena"), settings=SETTINGS) as place:
        yield place


@pytest.fixture(scope="module")
def without_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("open"), settings=SETTINGS, services=False, keys=False) as place:
        yield place


def _light(scenarios: list[Scenario]) -> list[Scenario]:
    return [scenario for scenario in scenarios if scenario.light]


@pytest.mark.parametrize("scenario", _light(WITH_KEYS), ids=lambda scenario: scenario.name)
def test_an_attack_keeps_within_its_bounds(with_keys: Arena, scenario: Scenario) -> None:
    played = play(with_keys, scenario, quiet_s=0.5, allowance_s=ALLOWANCE_S)

    assert not played.faults, "\n".join(played.faults[:10])


@pytest.mark.parametrize("scenario", _light(WITHOUT_KEYS), ids=lambda scenario: scenario.name)
def test_an_attack_on_a_server_without_keys_keeps_within_its_bounds(without_keys: Arena, scenario: Scenario) -> None:
    played = play(without_keys, scenario, quiet_s=0.5, allowance_s=ALLOWANCE_S)

    assert not played.faults, "\n".join(played.faults[:10])
