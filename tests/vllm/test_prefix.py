"""Turns share their prefix; ``python -m tests.vllm.prefix`` measures it in full."""

from __future__ import annotations

import httpx
import pytest

from services.protocol.critique.formats import FORMATS, FormatName
from tests.vllm.prefix import WANTED, sessions, share


@pytest.mark.parametrize("name", FORMATS)
def test_a_later_turn_finds_nearly_half_of_its_prompt(client: httpx.Client, name: FormatName) -> None:
    """The fixed text and the source, in whole blocks; the naive order shares at most the text."""
    size = (1024, 768)
    # Pictures of no other test.
    seed = 100 + list(FORMATS).index(name)
    ours = share(sessions(client, name, "ours", size, seed=seed, count=2, turns=3))
    naive = share(sessions(client, name, "naive", size, seed=seed + 10, count=2, turns=3))
    assert ours >= WANTED
    assert naive < WANTED * 2 / 3


def test_the_first_turn_of_a_session_finds_the_text_alone(client: httpx.Client) -> None:
    """So what a later turn shares is its own session's source."""
    first, second = sessions(client, "editthinker", "ours", (1024, 768), seed=200, count=2, turns=1)
    assert second.cached < 768
    assert first.prompt > 2 * 768
