"""A thousand replies of random weights: the constraint makes each of them parse, in every format.

``EDITTHINKER_THOUSAND`` says how many for each format: 100 by default, 1,000 before a release.

Random weights end a text only by chance, so nearly all would be as long as the constraint lets them be. Three of four
requests therefore make the token that ends a text likelier (``logit_bias``); the fourth is left alone, and rambles.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import Critique
from services.protocol.critique.replies import Reply, read_completion
from tests.doubles.processes import Process
from tests.vllm.serving import BIAS
from tests.vllm.test_server import TINY, body

COUNT = int(os.environ.get("EDITTHINKER_THOUSAND", "100"))
LEFT_ALONE = 4
"""One request of so many is not helped to an end."""
KIND: Constraint = "regex"
"""The constraint that the orchestrator finds first on vLLM."""


@dataclass(frozen=True)
class Asked:
    """The outcome of one request.

    Attributes:
        outcome: ``ok``, or why the reply could not be read.
        stray: the reply, if it is one that the constraint does not allow.
        tokens, characters: of the reply.
    """

    outcome: str
    stray: str = ""
    tokens: int = 0
    characters: int = 0


def request(name: FormatName, index: int, ending: str) -> dict[str, Any]:
    """A critique's request with a new seed and a new candidate."""
    form = FORMATS[name].bind()
    colour = f"rgb({index % 256}, {index // 256 % 256}, 90)"
    bias = {} if index % LEFT_ALONE == 0 else {"logit_bias": {ending: BIAS}}
    limit = form.longest()
    return body(name, side=64, candidate=colour, seed=index, **bias, **form.constraint(KIND)) | {"max_tokens": limit}


async def ask(client: httpx.AsyncClient, name: FormatName, sent: dict[str, Any]) -> Asked:
    form = FORMATS[name].bind()
    response = await client.post("/v1/chat/completions", json=sent)
    if response.status_code != httpx.codes.OK:
        return Asked(f"HTTP {response.status_code}: {response.text[:200]}")
    answer = response.json()
    reply = read_completion(answer)
    if not isinstance(reply, Reply):
        return Asked(str(reply))
    found = form.parse(reply)
    outcome = ("ok" if reply.finish_reason == "stop" else reply.finish_reason) if isinstance(found, Critique) else str(found)
    # xgrammar counts half of a surrogate pair as one character, and decoded its bytes are three that cannot be read.
    content = re.sub("\ufffd+", "\ufffd", reply.content)
    kept = form.conforms(replace(reply, content=content), KIND)
    return Asked(outcome, "" if kept else reply.content, answer["usage"]["completion_tokens"], len(reply.content))


@pytest.mark.parametrize("name", FORMATS)
async def test_every_reply_parses(
    vllm: Process, endings: dict[str, str], name: FormatName, capsys: pytest.CaptureFixture[str]
) -> None:
    """Enough to reveal a gap in the constraint."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=vllm.url, timeout=None, trust_env=False) as client:
        indices = iter(range(COUNT))

        async def one_after_the_other() -> list[Asked]:
            # In batches: a thousand concurrent requests are slow for the client.
            return [await ask(client, name, request(name, index, endings[name])) for index in indices]

        rows = await asyncio.gather(*[one_after_the_other() for _ in range(TINY.max_num_seqs or 1)])
    asked = [one for row in rows for one in row]
    seconds = time.monotonic() - began
    outcomes = Counter(one.outcome for one in asked)
    lengths = sorted(one.characters for one in asked)
    with capsys.disabled():
        rate = f"{seconds:.0f} s, {COUNT / seconds:.1f} replies/s, {sum(one.tokens for one in asked) / seconds:.0f} tokens/s"
        size = f"{lengths[0]} to {lengths[-1]} characters, half of them up to {lengths[COUNT // 2]}"
        print(f"\n{name}: {outcomes['ok']} of {COUNT} replies parse; {rate}; {size}", flush=True)  # noqa: T201 - the result
    assert outcomes == {"ok": COUNT}
    assert [one.stray for one in asked if one.stray] == []
