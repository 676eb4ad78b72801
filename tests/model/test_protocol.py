"""The scripts under every fault that hypothesis finds; and variants with a broken protocol, which must be detected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_client

from tests.doubles.processes import Process, redis_server
from tests.model.check import breaks, check
from tests.model.texts import BROKEN, Variant
from tests.model.world import World


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A Valkey of this module, in memory only."""
    with redis_server(tmp_path_factory.mktemp("model")) as process:
        with redis_client.Redis(port=process.port) as client:
            client.config_set("appendonly", "no")
        yield process


def test_the_protocol_holds(valkey: Process) -> None:
    """Crashes, pauses, skewed and jumping clocks, lost, late and repeated messages, and a Redis restored from an older file.

    `make soak` explores 20,000 examples.
    """
    world = World(valkey.port, 0)
    try:
        check(world, examples=40)
        assert world.finished > 30
    finally:
        world.close()


@pytest.mark.parametrize("variant", BROKEN, ids=lambda variant: variant.name.replace(" ", "-"))
def test_a_broken_protocol_is_found_out(valkey: Process, variant: Variant) -> None:
    """The state machine detects each of the broken variants."""
    world = World(valkey.port, 1, variant)
    try:
        assert breaks(world, examples=400)
    finally:
        world.close()
