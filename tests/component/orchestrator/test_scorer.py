"""The client of a judge that only gives scores: two requests a critique, and an error that names its fix."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestrator.loop.events import OutsideMask
from orchestrator.ports.collaborators import ChecklistOrder, CritiqueReply, Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.registry import ThinkerSettings
from orchestrator.upstreams.scorer import HttpScorer, ScoreDialect
from services.protocol.critique.score_formats import SCORE_FORMATS, ScoreFormatName
from tests.component.orchestrator.desk import WAIT_S, Answer, Desk, asking, stored
from tests.component.orchestrator.test_thinker_client import CANDIDATE, SOURCE, completion, order
from tests.doubles.decoding import InProcessPool

USAGE = {"prompt_tokens": 100, "completion_tokens": 7}


def dialect(name: ScoreFormatName, **options: Any) -> ScoreDialect:
    form = SCORE_FORMATS[name]
    known = {"constraint": "none", "sampling": {"temperature": 0.7, "max_tokens": 512}}
    return ScoreDialect("m", form, form.template(), form.quality_prompt(), **{**known, **options})


def pictures(body: dict[str, Any]) -> list[str]:
    return [part["image_url"]["url"][:16] for part in body["messages"][0]["content"] if part["type"] == "image_url"]


def by_picture(followed: Any, sound: Any) -> Answer:
    """An answer to each of the two requests, whichever comes first."""

    async def answer(desk: Desk, request: Request) -> Response:
        return JSONResponse(sound if len(pictures(json.loads(await request.body()))) == 1 else followed)

    return answer


def pairs(*marks: tuple[int, int]) -> dict[str, Any]:
    texts = [json.dumps({"reasoning": f"seen {mark}", "score": mark}) for mark in marks]
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
    return {"choices": choices, "usage": USAGE}


def digits(**shares: float) -> dict[str, Any]:
    top = [{"token": token[1:], "logprob": math.log(share)} for token, share in shares.items()]
    return {
        **completion(top[0]["token"], "length", usage=USAGE),
        "choices": [
            {"message": {"content": top[0]["token"]}, "finish_reason": "length", "logprobs": {"content": [{"top_logprobs": top}]}}
        ],
    }


async def critique(desk: Desk, spoken: ScoreDialect, **changes: Any) -> CritiqueReply:
    async with asking("thinker", desk.url) as upstream:
        return await HttpScorer(upstream, spoken, decoder=InProcessPool()).critique(replace(order(), **changes))


def bodies(desk: Desk) -> list[dict[str, Any]]:
    """The request about the instruction, and the one about the picture."""
    return sorted((json.loads(seen.body) for seen in desk.seen), key=lambda body: -len(pictures(body)))


async def test_editscore_asks_twice_and_takes_the_lower_of_each_pair(desk: Desk) -> None:
    """The picture is judged without the source and the instruction."""
    desk.answers = [by_picture(pairs((20, 15)), pairs((22, 25)))]
    reply = await critique(desk, dialect("editscore"))
    followed, sound = bodies(desk)

    assert reply == CritiqueReply(
        6.0, 8.8, "Instruction: [20, 15] seen (20, 15)\nPicture: [22, 25] seen (22, 25)", None, Usage(200, 14, 0)
    )
    assert pictures(followed) == ["data:image/png;b", "data:image/jpeg;"] and pictures(sound) == ["data:image/jpeg;"]
    assert "make it golden" in json.dumps(followed["messages"]) and "golden" not in json.dumps(sound["messages"])
    assert {key: followed[key] for key in ("model", "temperature", "max_tokens")} == {
        "model": "m",
        "temperature": 0.7,
        "max_tokens": 512,
    }


async def test_editscore_takes_the_mean_of_several_samples(desk: Desk) -> None:
    """One that cannot be read is left out."""
    broken = pairs((25, 25), (20, 20), (10, 15))
    broken["choices"][0]["message"]["content"] = "nothing"
    desk.answers = [by_picture(broken, pairs((25, 25), (20, 20), (15, 20)))]
    reply = await critique(desk, dialect("editscore", samples=3))

    assert [body["n"] for body in bodies(desk)] == [3, 3]
    assert (reply.semantic, reply.quality, reply.samples) == (6.0, 8.0, 2)
    assert (reply.semantic_spread, reply.quality_spread) == (2.0, round(math.sqrt(8 / 3), 3))


async def test_a_pair_that_cannot_be_read_is_repaired(desk: Desk) -> None:
    """In that one request."""
    told: list[int] = []

    async def answer(desk: Desk, request: Request) -> Response:
        messages = json.loads(await request.body())["messages"]
        told.append(len(messages))
        return JSONResponse(pairs((20, 15)) if len(messages) == 3 or len(told) == 1 else completion("nothing"))

    desk.answers = [answer]
    reply = await critique(desk, dialect("editscore"))

    assert sorted(told) == [1, 1, 3]
    assert (reply.semantic, reply.quality, reply.repaired) == (6.0, 6.0, True)


@pytest.mark.parametrize(("name", "constrained"), [("digit", False), ("editscore", True)])
async def test_a_digit_is_asked_without_a_constraint_unless_one_is_configured(
    desk: Desk, name: ScoreFormatName, *, constrained: bool
) -> None:
    """A constraint would hide that the model would rather answer with something else."""
    reply = digits(d4=1.0) if name == "digit" else pairs((20, 20))
    desk.answers = [by_picture(reply, reply)]
    await critique(desk, dialect(name, constraint="auto"))
    assert ["structured_outputs" in body for body in bodies(desk)] == [constrained] * 2


async def test_a_digit_is_one_token_read_with_its_probabilities(desk: Desk) -> None:
    """The configured token limit and temperature do not count."""
    desk.answers = [by_picture(digits(d4=0.5, d3=0.5), digits(d5=0.8, dThe=0.2))]
    reply = await critique(desk, dialect("digit", constraint="regex"), number=2)

    assert (reply.semantic, reply.quality, reply.refined_instruction, reply.samples) == (7.0, 10.0, None, 1)
    for body in bodies(desk):
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"], body["temperature"]) == (1, True, 20, 0.7)
        assert body["structured_outputs"] == {"regex": "(0|1|2|3|4|5)"}


async def test_a_digit_keeps_to_the_name_of_the_token_limit(desk: Desk) -> None:
    """OpenAI's newer models refuse the old one."""
    desk.answers = [by_picture(digits(d4=1.0), digits(d4=1.0))]
    await critique(desk, dialect("digit", sampling={"max_completion_tokens": 4096}))

    assert [(body["max_completion_tokens"], "max_tokens" in body) for body in bodies(desk)] == [(1, False)] * 2


async def test_logprobs_that_are_missing_are_an_error_that_names_the_fix(desk: Desk) -> None:
    """Asked once: no other wording brings them."""
    desk.answers = [JSONResponse(completion("4", "length"))]
    with pytest.raises(ThinkerError) as caught:
        await critique(desk, dialect("digit"))

    assert (caught.value.code, caught.value.retryable) == ("thinker_bad_reply", False)
    assert "vLLM with --max-logprobs 20" in caught.value.message
    assert all(len(body["messages"]) == 1 for body in bodies(desk))


async def test_logprobs_that_are_refused_are_an_error_that_names_the_fix(desk: Desk) -> None:
    """With the server's own words."""
    desk.answers = [JSONResponse({"error": {"message": "logprobs are not supported with this model"}}, 400)]
    with pytest.raises(ThinkerError) as caught:
        await critique(desk, dialect("digit"))

    assert (caught.value.code, caught.value.retryable) == ("thinker_misconfigured", False)
    assert "--max-logprobs" in caught.value.message and "not supported with this model" in caught.value.message


async def test_another_refusal_is_told_as_it_is(desk: Desk) -> None:
    desk.answers = [JSONResponse({"error": {"message": "no images here"}}, 400)]
    with pytest.raises(ThinkerError) as caught:
        await critique(desk, dialect("digit"))

    assert "no images here" in caught.value.message and "logprobs" not in caught.value.message


async def test_what_changed_outside_is_told_to_a_scorer_too(desk: Desk) -> None:
    """In the request about the instruction."""
    desk.answers = [by_picture(pairs((20, 15)), pairs((22, 25)))]
    await critique(desk, dialect("editscore"), outside_mask=OutsideMask(changed=0.125, difference=9.0))
    # A request may be repeated on a busy machine.
    followed, sound = dict.fromkeys(json.dumps(body["messages"]) for body in bodies(desk))

    assert "12.5 % changed visibly" in followed
    assert "changed visibly" not in sound


async def test_a_scorer_writes_no_checklist(desk: Desk) -> None:
    async with asking("thinker", desk.url) as upstream:
        scorer = HttpScorer(upstream, dialect("editscore"))
        with pytest.raises(ThinkerError, match="editscore writes no checklist"):
            await scorer.checklist(ChecklistOrder(stored(SOURCE), "x", WAIT_S))
    assert stored(CANDIDATE) is not None and not desk.seen


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "digit", "samples": 2, "sampling": {"temperature": 1}}, "leave samples at 1"),
        ({"format": "editscore", "samples": 4, "sampling": {"temperature": 0}}, "set sampling.temperature"),
        ({"format": "digit", "constraint": "json_schema"}, "the format digit has no json_schema constraint"),
        ({"format": "json_schema", "quality_template": "two.txt"}, "quality_template is for editscore and digit"),
        ({"format": "digit", "quality_template": "none.txt"}, "quality_template cannot be read"),
        ({"format": "digit", "quality_template": "two.txt"}, "leave one"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    (tmp_path / "two.txt").write_text("<image><image>")
    if "quality_template" in fields:
        fields = {**fields, "quality_template": tmp_path / fields["quality_template"]}
    with pytest.raises(ValidationError, match=message):
        ThinkerSettings(url="http://judge.test/v1", model="m", **fields)


def test_prompts_of_ones_own_take_the_place_of_ours(tmp_path: Path) -> None:
    """Those that a reward model was trained on."""
    (tmp_path / "a.txt").write_text("{original_instruction}")
    (tmp_path / "b.txt").write_text("how sound?")
    files: dict[str, Any] = {"template": tmp_path / "a.txt", "quality_template": tmp_path / "b.txt"}
    settings = ThinkerSettings(url="http://judge.test/v1", model="m", format="editscore", **files)

    assert (settings.prompt().text, settings.quality_prompt()) == ("{original_instruction}", "how sound?")
