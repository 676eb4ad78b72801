"""The model check with a chosen number of examples: ``python -m tests.model --examples 20000``."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import redis as redis_client

from tests.doubles.processes import redis_server
from tests.model.check import check
from tests.model.world import World


def main() -> None:
    """Explore at random; a failure is shrunk and printed as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=80, help="things that happen in each example, at most")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as process:
        with redis_client.Redis(port=process.port) as client:
            client.config_set("appendonly", "no")
        world, began = World(process.port, 0), time.monotonic()
        try:
            check(world, examples=arguments.examples, steps=arguments.steps, derandomize=False)
        finally:
            took = time.monotonic() - began
            print(f"{world.sent} commands, {world.finished} sessions finished in {took:.0f} s")  # noqa: T201
            world.close()


if __name__ == "__main__":
    main()
