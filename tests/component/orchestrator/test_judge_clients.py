"""The clients of judges over real HTTP: comparisons in both orders, and reward models with heads."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.ports.collaborators import CompareOrder, CompareReply, CritiqueOrder, Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.fallback import ComparerWithFallback
from orchestrator.upstreams.pairwise import PairDialect, PairwiseJudge
from orchestrator.upstreams.reward_model import ComparingRewardModel
from services.imaging.decode_pool import DecodePool
from services.protocol.critique.pairs import pair_template
from services.protocol.judge_api import ContractError, read_comparison, read_scores
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, busy, holding, stored
from tests.unit.imaging.pictures import saved, scene

SOURCE = saved(scene(), "PNG")
LEFT, RIGHT = saved(scene().rotate(90, expand=True), "PNG"), saved(scene().rotate(180), "JPEG")
ORDER = CompareOrder(stored(SOURCE), stored(LEFT), stored(RIGHT), "make it golden", WAIT_S)


@asynccontextmanager
async def pair_judge(url: str, **options: Any) -> AsyncIterator[PairwiseJudge]:
    sampling = options.pop("sampling", {"temperature": 0})
    async with asking("judge", url, **options) as upstream:
        dialect = PairDialect("m", pair_template(), options.get("constraint", "none"), sampling)
        yield PairwiseJudge(upstream, dialect, lambda _: None, DecodePool())


def said(text: str) -> Response:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})


def pictures_in(body: bytes) -> list[bytes]:
    """The pictures of a chat request, in their order."""
    parts = json.loads(body)["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(",")[2]) for url in urls]


def judging(choose: Callable[[bytes, bytes], str]) -> Any:
    """Answers by what it is shown as A and as B."""

    async def answer(_: Desk, request: Request) -> Response:
        first, second = pictures_in(await request.body())[1:]
        winner = choose(first, second)
        return said(json.dumps({"reasoning": f"because of {winner}", "winner": winner}))

    return answer


async def compared(desk: Desk, order: CompareOrder = ORDER) -> CompareReply:
    async with pair_judge(desk.url) as judge:
        return await judge.compare(order)


@pytest.mark.parametrize(
    ("choose", "winner"),
    [
        (lambda first, _: "A" if first == LEFT else "B", "first"),
        (lambda first, _: "Image A" if first == RIGHT else "Image B", "second"),
        (lambda first, _: "tie", "tie"),
        (lambda first, _: "A", "tie"),
        (lambda first, _: "B", "tie"),
        (lambda first, _: "A" if first == LEFT else "tie", "tie"),
    ],
    ids=["the first", "the second", "a tie", "always A", "always B", "a tie in one order"],
)
async def test_a_preference_holds_in_both_orders_or_is_a_tie(
    desk: Desk, choose: Callable[[bytes, bytes], str], winner: str
) -> None:
    desk.answers = [judging(choose)]
    reply = await compared(desk)

    assert reply.winner == winner
    assert reply.usage == Usage(200, 20, 0)
    assert sorted(pictures_in(seen.body)[1:] for seen in desk.seen) == sorted([[LEFT, RIGHT], [RIGHT, LEFT]])
    assert {pictures_in(seen.body)[0] for seen in desk.seen} == {SOURCE}


async def test_a_tie_by_disagreement_has_both_reasons(desk: Desk) -> None:
    desk.answers = [judging(lambda *_: "A")]
    reply = await compared(desk)

    assert reply.reasoning == "In one order: because of A\nIn the other, with the names exchanged: because of A"


async def test_an_unreadable_reply_is_requested_once_more(desk: Desk) -> None:
    async def once(desk: Desk, request: Request) -> Response:
        body = json.loads(await request.body())
        return said('{"winner": "Tie"}' if len(body["messages"]) > 1 else "A looks better")

    desk.answers = [once]
    reply = await compared(desk)

    assert reply.winner == "tie" and len(desk.seen) == 4


async def test_a_judge_that_names_no_winner_fails_once_for_both_orders(desk: Desk) -> None:
    desk.answers = [said('{"winner": "C"}')]
    with pytest.raises(ThinkerError) as caught:
        await compared(desk)

    assert (caught.value.code, caught.value.retryable) == ("thinker_bad_reply", True)
    assert "no usable comparison: unknown_winner" in caught.value.message


async def test_cancelling_a_comparison_ends_both_requests(desk: Desk) -> None:
    desk.answers = [holding]
    task = asyncio.create_task(compared(desk))
    assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(desk.left.wait, WAIT_S)


async def test_the_fallback_compares_where_the_first_fails(desk: Desk) -> None:
    desk.answers = [judging(lambda first, _: "A" if first == LEFT else "B")]
    async with pair_judge("http://127.0.0.1:9", attempts=1) as away, pair_judge(desk.url) as near:
        reply = await ComparerWithFallback(away, near, "near").compare(ORDER)

    assert (reply.winner, reply.thinker) == ("first", "near")


# --- reward models ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def reward_model(url: str, **options: Any) -> AsyncIterator[ComparingRewardModel]:
    async with asking("judge", url, **options) as upstream:
        yield ComparingRewardModel(upstream, "heads", None, lambda _: None, DecodePool())


CRITIQUE = CritiqueOrder(stored(SOURCE), stored(RIGHT), "make it golden", "warm light", WAIT_S, references=(stored(LEFT),))


def picture(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


async def test_a_reward_model_gets_pictures_and_texts_and_answers_numbers(desk: Desk) -> None:
    desk.answers = [JSONResponse({"semantic": 7.25, "quality": 8, "reasoning": "two heads"})]
    async with reward_model(desk.url, api_key="secret") as judge:
        reply = await judge.critique(CRITIQUE)
    (seen,) = desk.seen
    sent = json.loads(seen.body)

    assert (reply.semantic, reply.quality, reply.reasoning, reply.refined_instruction) == (7.25, 8.0, "two heads", None)
    assert (seen.path, seen.headers["authorization"]) == ("/v1/scores", "Bearer secret")
    assert (sent["instruction"], sent["turn_instruction"], sent["model"]) == ("make it golden", "warm light", "heads")
    assert (picture(sent["source"]), picture(sent["edited"])) == (SOURCE, RIGHT)
    assert [picture(url) for url in sent["references"]] == [LEFT]
    assert sent["area"] is None
    assert sent["edited"].startswith("data:image/jpeg;base64,")


async def test_a_reward_model_compares_in_both_orders(desk: Desk) -> None:
    async def better(_: Desk, request: Request) -> Response:
        sent = json.loads(await request.body())
        return JSONResponse({"winner": "first" if picture(sent["first"]) == RIGHT else "second"})

    desk.answers = [better]
    async with reward_model(desk.url) as judge:
        reply = await judge.compare(ORDER)

    assert reply.winner == "second"
    assert [seen.path for seen in desk.seen] == ["/v1/comparisons"] * 2


async def test_a_busy_reward_model_is_asked_again(desk: Desk, at_once: None) -> None:
    desk.answers = [busy("0"), busy("0", 503), JSONResponse({"overall": 6})]
    async with reward_model(desk.url, away_s=60) as judge:
        reply = await judge.critique(CRITIQUE)

    assert (reply.semantic, reply.quality, len(desk.seen)) == (6.0, 6.0, 3)


async def test_a_wrong_key_is_not_tried_again(desk: Desk) -> None:
    desk.answers = [JSONResponse({"error": {"message": "no such key"}}, 401)]
    async with reward_model(desk.url) as judge:
        with pytest.raises(ThinkerError) as caught:
            await judge.critique(CRITIQUE)

    assert (caught.value.code, caught.value.retryable, len(desk.seen)) == ("thinker_misconfigured", False, 1)
    assert "the judge answered 401: no such key" in caught.value.message


BROKEN: list[Any] = [
    *(None, 7, "8", [], {}, {"semantic": 8}, {"quality": 8}, {"score": 8}, {"semantic": "8", "quality": "8"}),
    *({"semantic": 11, "quality": 8}, {"semantic": -0.5, "quality": 8}, {"semantic": True, "quality": True}, {"overall": 10.01}),
    *({"semantic": None, "quality": None, "overall": 8}, {"semantic": [8], "quality": [8]}, {"data": [{"semantic": 8}]}),
]


@pytest.mark.parametrize("body", BROKEN, ids=json.dumps)
async def test_a_reply_outside_the_contract_is_no_critique(desk: Desk, body: Any) -> None:
    desk.answers = [JSONResponse(body)]
    async with reward_model(desk.url, attempts=1) as judge:
        with pytest.raises(ThinkerError) as caught:
            await judge.critique(CRITIQUE)

    assert (caught.value.code, caught.value.retryable) == ("thinker_bad_reply", True)


def either(read: Callable[[object], Any], body: object) -> Any:
    """What was read, or the error of the contract."""
    try:
        return read(body)
    except ContractError as exc:
        return exc


def test_a_thousand_generated_replies_are_scores_in_range_or_refused() -> None:
    dice = random.Random(17)
    values: list[Any] = [0, 10, 7.5, -1, 11, 1e308, float("nan"), float("inf"), 10**400, True, None, "8", [8], {}]
    keys = ["semantic", "quality", "overall", "reasoning", "winner", "x"]
    good = refused = 0
    for _ in range(1_000):
        body: Any = {key: dice.choice(values) for key in dice.sample(keys, dice.randint(0, 6))}
        if dice.random() < 0.3:
            body |= {"semantic": dice.uniform(0, 10), "quality": dice.uniform(0, 10)}
        if dice.random() < 0.3:
            body["winner"] = dice.choice(["first", "second", "tie", "A", 1])
        found = either(read_scores, body)
        if isinstance(found, ContractError):
            refused += 1
        else:
            good += 1
            assert 0 <= found.semantic <= 10 and 0 <= found.quality <= 10
        compared = either(read_comparison, body)
        assert isinstance(compared, ContractError) or compared.winner == body["winner"]

    assert good > 100 and refused > 100
