"""The judge with seeded noise: what it changes in a thinker's replies, and how it is put in front of one."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.noisy_judge import Noise, application, judged_picture, noisy_plan
from editthinker.local.home import Home
from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique
from services.protocol.critique.replies import Reply

CONTENT = '<think>semantic is fine</think><score>{"semantic": 6, "quality": 8.5}</score><answer>warmer, by 20</answer>'


def completion() -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": CONTENT}, "finish_reason": "stop"}]}


def critique(reply: dict[str, Any]) -> Critique:
    parsed = FORMATS["editthinker"].bind().parse(Reply(reply["choices"][0]["message"]["content"]))
    assert isinstance(parsed, Critique)
    return parsed


def scores(noise: Noise, picture: str, times: int) -> list[tuple[float, float]]:
    judged = [critique(noise.on(completion(), picture)) for _ in range(times)]
    return [(each.semantic, each.quality) for each in judged]


def question(*pictures: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return {"model": "rules", "messages": [{"role": "user", "content": [{"type": "text", "text": "which?"}, *parts]}]}


async def post(app: Starlette, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://judge") as client:
        return await client.post("/v1/chat/completions", json=body)


def in_front_of(thinker: Starlette, noise: Noise) -> Starlette:
    return application(httpx.AsyncClient(transport=httpx.ASGITransport(thinker), base_url="http://thinker"), noise)


def test_a_repeated_critique_gets_another_noise() -> None:
    first, second, third = scores(Noise(1.0, 1), "picture", 3)

    assert len({first, second, third}) == 3


def test_noise_of_a_picture_does_not_depend_on_what_else_was_judged() -> None:
    alone, among = Noise(1.0, 1), Noise(1.0, 1)
    scores(among, "other", 5)

    assert scores(alone, "picture", 4) == scores(among, "picture", 4)


def test_another_seed_and_another_picture_get_other_noise() -> None:
    given = [scores(Noise(1.0, seed), picture, 3) for seed, picture in ((1, "a"), (2, "a"), (1, "b"))]

    assert given[0] != given[1] and given[0] != given[2]


def test_the_deviation_is_the_given_one() -> None:
    semantic = [score for score, _ in scores(Noise(0.5, 1), "picture", 400)]

    assert statistics.fmean(semantic) == pytest.approx(6, abs=0.1)
    assert statistics.stdev(semantic) == pytest.approx(0.5, abs=0.05)


def test_scores_keep_to_the_constraint_of_the_format() -> None:
    noise, form = Noise(4.0, 1), FORMATS["editthinker"].bind()
    contents = [noise.on(completion(), "picture")["choices"][0]["message"]["content"] for _ in range(100)]

    assert all(form.conforms(Reply(content), "regex") for content in contents)


def test_reasons_and_instructions_stay() -> None:
    judged = critique(Noise(1.0, 1).on(completion(), "picture"))

    assert (judged.reasoning, judged.refined_instruction) == ("semantic is fine", "warmer, by 20")


def test_the_picture_that_is_judged_is_the_last_one() -> None:
    assert judged_picture(question("source", "one")) != judged_picture(question("source", "two"))
    assert judged_picture(question("source", "one")) == judged_picture(question("another source", "one"))


def test_the_request_reaches_the_thinker_as_it_is() -> None:
    seen: list[Any] = []

    async def answer(request: Request) -> JSONResponse:
        seen.append(await request.json())
        return JSONResponse(completion())

    thinker = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    reply = asyncio.run(post(in_front_of(thinker, Noise(1.0, 1)), question("source", "one")))

    assert seen == [question("source", "one")]
    assert reply.json() == Noise(1.0, 1).on(completion(), judged_picture(question("source", "one")))


def test_a_refusal_of_the_thinker_is_passed_on() -> None:
    async def busy(_: Request) -> JSONResponse:
        return JSONResponse({"error": {"message": "busy"}}, 429, {"retry-after": "3"})

    thinker = Starlette(routes=[Route("/v1/chat/completions", busy, methods=["POST"])])
    reply = asyncio.run(post(in_front_of(thinker, Noise(1.0, 1)), question("source", "one")))

    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (429, {"error": {"message": "busy"}}, "3")


def test_the_orchestrator_of_a_noisy_stack_asks_the_judge_and_not_the_thinker(tmp_path: Path) -> None:
    plan = noisy_plan(1.5, 7)(Home(tmp_path), 8080)
    services = {service.name: service for service in plan.services}
    judge, thinker = services["judge"], services["thinker"]
    options = dict(zip(judge.command[3::2], judge.command[4::2], strict=True))

    assert plan.services[-1].name == "orchestrator"
    assert (options["--noise"], options["--seed"]) == ("1.5", "7")
    assert thinker.ready_url == f"{options['--thinker']}/readyz"
    asked = json.loads(services["orchestrator"].env["EDITTHINKER_THINKERS"])["rules"]["url"]
    assert judge.ready_url == re.sub("/v1$", "/readyz", asked)
