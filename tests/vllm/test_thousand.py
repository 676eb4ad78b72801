"""A thousand replies of random weights: the constraint makes each of them parse, in every format.

``EDITTHINKER_THOUSAND`` says how many for each format: 100 by default, 1,000 before a release. Critiques are requested here;
comparisons, scores, critiques that point and rewritten instructions by the orchestrator's own clients.

Random weights end a text only by chance, so nearly all would be as long as the constraint lets them be. Three of four
requests therefore make the token that ends a text likelier (``logit_bias``); the fourth is left alone, and rambles.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx
import pytest

from orchestrator.ports.collaborators import CompareOrder, CritiqueOrder, PrepareOrder, StoredImage
from orchestrator.upstreams.chat import ChatModel
from orchestrator.upstreams.http import HttpUpstream
from orchestrator.upstreams.pairwise import PairDialect, PairwiseJudge
from orchestrator.upstreams.scorer import HttpScorer, ScoreDialect
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.digit import DIGIT
from services.protocol.critique.editscore import EDITSCORE
from services.protocol.critique.formats import FORMATS, FormatName, ReplyFormat
from services.protocol.critique.messages import Unparseable
from services.protocol.critique.pairs import PAIRWISE, Comparison, pair_template
from services.protocol.critique.places import MAX_PLACES
from services.protocol.critique.replies import Reply, read_completion
from services.protocol.critique.score_formats import SCORE_FORMATS, ScoreFormatName
from services.protocol.critique.scores import Rating
from services.protocol.rewriting import REWRITERS
from tests.component.orchestrator.desk import asking, stored
from tests.doubles.decoding import InProcessPool
from tests.doubles.processes import Process
from tests.vllm.serving import BIAS
from tests.vllm.test_server import TINY, body, picture

COUNT = int(os.environ.get("EDITTHINKER_THOUSAND", "100"))
LEFT_ALONE = 4
"""One request of so many is not helped to an end."""
KIND: Constraint = "regex"
"""The constraint that the orchestrator finds first on vLLM."""
PATIENCE_S = 600.0
POOL = InProcessPool()


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


def colour(index: int) -> str:
    """Another one for each request."""
    return f"rgb({index % 256}, {index // 256 % 256}, 90)"


def bias(index: int, ending: str) -> dict[str, Any]:
    """Fields that help three of four requests to an end."""
    return {} if index % LEFT_ALONE == 0 else {"logit_bias": {ending: BIAS}}


def request(name: FormatName, index: int, ending: str) -> dict[str, Any]:
    """A critique's request with a new seed and a new candidate."""
    form = FORMATS[name].bind()
    fields = {**bias(index, ending), **form.constraint(KIND)}
    return body(name, side=64, candidate=colour(index), seed=index, **fields) | {"max_tokens": form.longest()}


def outcome(form: ReplyFormat[Any], reply: Reply | Unparseable, tokens: int) -> Asked:
    """What became of one reply."""
    if isinstance(reply, Unparseable):
        return Asked(str(reply))
    found = form.parse(reply)
    # A digit is all of its token limit.
    whole = reply.finish_reason == ("length" if form is DIGIT else "stop")
    told = str(found) if isinstance(found, Unparseable) else "ok" if whole else reply.finish_reason
    # xgrammar counts half of a surrogate pair as one character, and decoded its bytes are three that cannot be read.
    kept = form.conforms(replace(reply, content=re.sub("\ufffd+", "\ufffd", reply.content)), KIND)
    return Asked(told, "" if kept else reply.content, tokens, len(reply.content))


async def ask(client: httpx.AsyncClient, name: FormatName, sent: dict[str, Any]) -> Asked:
    response = await client.post("/v1/chat/completions", json=sent)
    if response.status_code != httpx.codes.OK:
        return Asked(f"HTTP {response.status_code}: {response.text[:200]}")
    answer = response.json()
    return outcome(FORMATS[name].bind(), read_completion(answer), answer["usage"]["completion_tokens"])


async def at_once(calls: int, call: Callable[[int], Awaitable[Sequence[Asked]]]) -> list[Asked]:
    """The outcomes of so many calls, as many at the same time as the server takes."""
    indices = iter(range(calls))

    async def one_after_the_other() -> list[Asked]:
        # In batches: a thousand concurrent requests are slow for the client.
        return [one for index in indices for one in await call(index)]

    rows = await asyncio.gather(*[one_after_the_other() for _ in range(TINY.max_num_seqs or 1)])
    return [one for row in rows for one in row]


def told(name: str, asked: Sequence[Asked], seconds: float) -> str:
    """The result, in a line."""
    count, lengths = len(asked), sorted(one.characters for one in asked)
    parsed = sum(one.outcome == "ok" for one in asked)
    rate = f"{seconds:.0f} s, {count / seconds:.1f} replies/s, {sum(one.tokens for one in asked) / seconds:.0f} tokens/s"
    size = f"{lengths[0]} to {lengths[-1]} characters, half of them up to {lengths[count // 2]}"
    return f"\n{name}: {parsed} of {count} replies parse; {rate}; {size}"


@pytest.mark.parametrize("name", FORMATS)
async def test_every_reply_parses(
    vllm: Process, endings: dict[str, str], name: FormatName, capsys: pytest.CaptureFixture[str]
) -> None:
    """Enough to reveal a gap in the constraint."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=vllm.url, timeout=None, trust_env=False) as client:

        async def call(index: int) -> list[Asked]:
            return [await ask(client, name, request(name, index, endings[name]))]

        asked = await at_once(COUNT, call)
    with capsys.disabled():
        print(told(name, asked, time.monotonic() - began), flush=True)  # noqa: T201 - the result
    assert Counter(one.outcome for one in asked) == {"ok": COUNT}
    assert [one.stray for one in asked if one.stray] == []


ClientName = Literal["pairwise", "editscore", "digit", "json_schema with places", "checklist with places", "prepare"]
FORMS: Mapping[ClientName, ReplyFormat[Any]] = {
    "pairwise": PAIRWISE,
    "editscore": EDITSCORE,
    "digit": DIGIT,
    "json_schema with places": FORMATS["json_schema"].bind(places=True),
    "checklist with places": FORMATS["checklist"].bind(places=True),
    "prepare": REWRITERS["template"].format,
}
"""What a client asks for, by its name here."""
TWICE: frozenset[ClientName] = frozenset({"pairwise", "editscore", "digit"})
"""Two requests a call: both orders, or both scores."""
SHARE: Mapping[ClientName, int] = {"json_schema with places": 2, "checklist with places": 4}
"""One of so many: these replies are long, and the parts they share with others are tested there."""


@dataclass
class Heard:
    """What the clients get, as they get it: the pictures of the request, the reply, and its tokens."""

    replies: list[tuple[tuple[StoredImage, ...], Reply | Unparseable, int]] = field(default_factory=list)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[ChatModel, Heard]:
    """By client."""
    kept: dict[ChatModel, Heard] = {}
    complete = ChatModel.complete

    async def listening(self: ChatModel, contract: Any, *rest: Any) -> Any:
        replies, usage = await complete(self, contract, *rest)
        kept.setdefault(self, Heard()).replies += [(tuple(contract.pictures), one, usage.completion_tokens) for one in replies]
        return replies, usage

    monkeypatch.setattr(ChatModel, "complete", listening)
    return kept


class Clients:
    """Calls of the orchestrator's clients: each with another seed and other pictures; what they say is compared with the replies.

    Args:
        upstream: the server.
        ending: the token that ends a free text.
        heard: by client, what it gets.
    """

    def __init__(self, upstream: HttpUpstream, ending: str, heard: dict[ChatModel, Heard]) -> None:
        self._upstream = upstream
        self._ending = ending
        self._heard = heard

    async def call(self, name: ClientName, index: int) -> list[Asked]:
        """One call, and the outcomes of its requests."""
        sampling = {"temperature": 1, "seed": index, "max_tokens": FORMS[name].longest(), **bias(index, self._ending)}
        pictures = [stored(picture(each, 64).data) for each in ("grey", colour(index), "teal")]
        if name == "pairwise":
            chat = await self._compare(sampling, *pictures)
        elif name == "editscore" or name == "digit":
            chat = await self._score(name, sampling, *pictures[:2])
        else:
            chat = await self._think(name, sampling, *pictures[:2])
        replies = self._heard.pop(chat).replies
        assert len(replies) == 1 + (name in TWICE), "a reply was repaired"
        return [outcome(FORMS[name], reply, tokens) for _, reply, tokens in replies]

    async def _compare(self, sampling: dict[str, Any], source: StoredImage, first: StoredImage, second: StoredImage) -> ChatModel:
        dialect = PairDialect(TINY.served_name, pair_template(), KIND, sampling)
        judge = PairwiseJudge(self._upstream, dialect, lambda _: None, POOL)
        reply = await judge.compare(CompareOrder(source, first, second, "golden hour", PATIENCE_S))
        chat = judge._chat
        named = {
            pictures[1].ref.sha256: PAIRWISE.parse(read)
            for pictures, read, _ in self._heard[chat].replies
            if isinstance(read, Reply)
        }
        straight, swapped = named[first.ref.sha256], named[second.ref.sha256]
        assert isinstance(straight, Comparison) and isinstance(swapped, Comparison)
        expected = {"AB": "first", "BA": "second"}.get(straight.winner + swapped.winner, "tie")
        assert reply.winner == expected
        return chat

    async def _score(self, name: ScoreFormatName, sampling: dict[str, Any], source: StoredImage, edit: StoredImage) -> ChatModel:
        form = SCORE_FORMATS[name]
        dialect = ScoreDialect(TINY.served_name, form, form.template(), form.quality_prompt(), KIND, sampling)
        judge = HttpScorer(self._upstream, dialect, decoder=POOL)
        reply = await judge.critique(CritiqueOrder(source, edit, "golden hour", "warm light", PATIENCE_S))
        chat = judge._chat
        # The picture alone is asked about in the second request.
        ratings = {
            len(pictures): form.reply_format.parse(read)
            for pictures, read, _ in self._heard[chat].replies
            if isinstance(read, Reply)
        }
        followed, sound = ratings[2], ratings[1]
        assert isinstance(followed, Rating) and isinstance(sound, Rating)
        assert (reply.semantic, reply.quality, reply.refined_instruction) == (followed.score, sound.score, None)
        return chat

    async def _think(self, name: ClientName, sampling: dict[str, Any], source: StoredImage, edit: StoredImage) -> ChatModel:
        form = FORMATS["checklist" if name.startswith("checklist") else "json_schema"]
        dialect = Dialect(TINY.served_name, form, form.template(), KIND, sampling, places=name != "prepare")
        thinker = HttpThinker(self._upstream, dialect, decoder=POOL)
        if name == "prepare":
            prepared = await thinker.prepare(PrepareOrder(source, "golden hour", PATIENCE_S, prompt_tokens=77))
            assert prepared.instruction.strip()
        else:
            critique = await thinker.critique(CritiqueOrder(source, edit, "golden hour", "warm light", PATIENCE_S))
            assert len(critique.places) <= MAX_PLACES
        return thinker._chat


@pytest.mark.parametrize("name", FORMS)
async def test_every_reply_to_a_client_parses(
    vllm: Process,
    endings: dict[str, str],
    heard: dict[ChatModel, Heard],
    name: ClientName,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the first attempt: none is repaired. Both orders of a comparison, and both scores."""
    began = time.monotonic()
    count = COUNT // SHARE.get(name, 1)
    async with asking("judge", vllm.url, timeout_s=PATIENCE_S) as upstream:
        clients = Clients(upstream, endings["json_schema"], heard)
        asked = await at_once(count // (1 + (name in TWICE)), lambda index: clients.call(name, index))
    with capsys.disabled():
        print(told(name, asked, time.monotonic() - began), flush=True)  # noqa: T201 - the result
    assert Counter(one.outcome for one in asked) == {"ok": count}
    assert [one.stray for one in asked if one.stray] == []
