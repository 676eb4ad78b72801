"""The light scenarios of docs/security.md: a tenant attacks, and the bounds of memory, work and storage hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.attacks.arena import Arena, arena
from tests.attacks.scenario import Scenario, play
from tests.attacks.scenarios import SETTINGS, WITH_KEYS, WITHOUT_KEYS

pytestmark = pytest.mark.xdist_group("scenarios")
_BUSY = 3
"""Times the processor time that a scenario may take, where other tests share the caches."""


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


def _untimed(scenario: Scenario) -> Scenario:
    """Without another tenant's edits: `make attacks` times them, on a machine that does nothing else."""
    return replace(scenario, timed=False, bound=replace(scenario.bound, cpu_s=_BUSY * scenario.bound.cpu_s))


@pytest.mark.parametrize("scenario", _light(WITH_KEYS), ids=lambda scenario: scenario.name)
def test_an_attack_keeps_within_its_bounds(with_keys: Arena, scenario: Scenario) -> None:
    played = play(with_keys, _untimed(scenario))

    assert not played.faults, "\n".join(played.faults[:10])


@pytest.mark.parametrize("scenario", _light(WITHOUT_KEYS), ids=lambda scenario: scenario.name)
def test_an_attack_on_a_server_without_keys_keeps_within_its_bounds(without_keys: Arena, scenario: Scenario) -> None:
    played = play(without_keys, _untimed(scenario))

    assert not played.faults, "\n".join(played.faults[:10])
