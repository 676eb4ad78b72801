"""The clients that are installed with the tests, with every time divided by fifty."""

from __future__ import annotations

from pathlib import Path

from tests.clients.slow.run import LIGHT, run


async def test_each_client_gets_a_picture_from_one_session(tmp_path: Path) -> None:
    """Also the one that gives up twice and asks again."""
    verdicts = await run(tmp_path, LIGHT, scale=1 / 50)
    assert [found for found in verdicts if not found.good] == []
