"""The real vLLM, started by our launcher, answers as the orchestrator needs it to."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import Critique, CritiqueRequest, Picture, Strayed, build
from services.protocol.critique.replies import Reply, read_completion
from services.protocol.rewriting import REWRITERS
from services.thinker.profiles import load

TINY = load()["tiny"]


def picture(colour: str, side: int = 256) -> Picture:
    """A PNG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return Picture(out.getvalue(), "image/png")


def body(name: FormatName, *, side: int = 256, candidate: str = "orange", **more: Any) -> dict[str, Any]:
    """A critique's request, without a constraint."""
    pictures = picture("grey", side), picture(candidate, side)
    request = CritiqueRequest(*pictures, instruction="golden hour", turn_instruction="warm evening light")
    messages = build(request, FORMATS[name].template())
    return {"model": TINY.served_name, "messages": messages, "max_tokens": 4096, "temperature": 1, **more}


def ask(client: httpx.Client, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request that succeeds."""
    response = client.post("/v1/chat/completions", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_it_serves_the_profiles_name(client: httpx.Client) -> None:
    """Not the folder's."""
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]


@pytest.mark.parametrize(("name", "kind"), [("editthinker", "regex"), ("json_schema", "json_schema")])
@pytest.mark.parametrize("seed", range(4))
def test_a_constrained_reply_parses(client: httpx.Client, name: FormatName, kind: Constraint, seed: int) -> None:
    """Even from random weights."""
    form = FORMATS[name].bind()
    answer = ask(client, body(name, seed=seed, **form.constraint(kind)))
    reply = read_completion(answer)
    assert isinstance(reply, Reply)
    assert reply.finish_reason == "stop"
    assert isinstance(form.parse(reply), Critique), reply.content


def test_no_special_token_takes_the_place_of_text(client: httpx.Client, tiny_model: Path, endings: dict[str, str]) -> None:
    """To xgrammar it is the text that it spells, and the server leaves it out: a reply could be empty that must not be."""
    tokenizer = json.loads((tiny_model / "tokenizer.json").read_text("utf-8"))
    special = next(str(token["id"]) for token in tokenizer["added_tokens"] if token["content"] == "<|box_start|>")
    # The token that begins the text, so that none begins it with a character.
    opening = str(tokenizer["model"]["vocab"]['\u0120"'])
    form = REWRITERS["template"].format
    fields = {"logit_bias": {special: 50.0, opening: 40.0, endings["json_schema"]: 40.0}, **form.constraint("regex")}
    reply = read_completion(ask(client, body("json_schema", seed=1, **fields)))
    assert isinstance(reply, Reply)
    assert isinstance(form.parse(reply), str), reply.content


def test_without_a_constraint_it_does_not(client: httpx.Client) -> None:
    """So the replies above parse because of the constraint."""
    reply = read_completion(ask(client, body("editthinker", seed=0, max_tokens=256)))
    assert isinstance(reply, Reply)
    assert not isinstance(FORMATS["editthinker"].bind().parse(reply), Critique)


def test_the_constraint_of_former_versions_is_not_honoured(client: httpx.Client) -> None:
    """`guided_regex` is accepted and does nothing; the client gets no error."""
    reply = read_completion(ask(client, body("editthinker", seed=0, max_tokens=64, guided_regex="yes|no")))
    assert isinstance(reply, Reply)
    assert reply.content not in {"yes", "no"}


def test_what_turns_share_is_computed_once(client: httpx.Client) -> None:
    """Template and source picture of the second turn come from the cache, and the usage says so."""
    first, second = (
        ask(client, body("editthinker", side=512, candidate=colour, max_tokens=1))["usage"] for colour in ("red", "blue")
    )
    details = second["prompt_tokens_details"]
    assert details["multimodal_tokens"] == {"image": 2 * 16 * 16}
    assert second["prompt_tokens"] == first["prompt_tokens"]
    assert details["cached_tokens"] > 16 * 16


@pytest.mark.parametrize("references", [1, 4, 15])
def test_references_and_the_area_are_computed_once(client: httpx.Client, references: int) -> None:
    """With as many pictures as a session may have, a later turn's critique computes little more than its candidate."""
    side = 512 if references == 1 else 256
    shades = [picture(f"hsl({17 * number}, {40 + references}%, 50%)", side) for number in range(references)]
    usages = []
    for colour, said in (("red", None), ("blue", Strayed(0.1, 9.0))):
        request = CritiqueRequest(
            picture("grey", side),
            picture(colour, side),
            instruction="put the hat of picture 2 on the cat",
            turn_instruction="a hat",
            references=tuple(shades),
            area=picture("silver", side),
            strayed=said,
        )
        messages = build(request, FORMATS["editthinker"].template())
        usages.append(ask(client, {"model": "tiny", "messages": messages, "max_tokens": 1})["usage"])
    shared = (side // 32) ** 2 * (references + 2)
    details = usages[1]["prompt_tokens_details"]
    assert details["multimodal_tokens"] == {"image": (side // 32) ** 2 * (references + 3)}
    assert details["cached_tokens"] > shared


def test_pictures_are_brought_down_to_the_profiles_area(client: httpx.Client) -> None:
    """A large one counts as many tokens as one of 1024 x 1024, even if the checkpoint allows more."""
    usage = ask(client, body("editthinker", side=1600, max_tokens=1))["usage"]
    assert usage["prompt_tokens_details"]["multimodal_tokens"] == {"image": 2 * 32 * 32}


def test_long_prompts_with_a_seed_do_not_kill_it(client: httpx.Client) -> None:
    """With chunked prefill they do, on a CPU; the profile leaves it out."""
    assert ask(client, body("editthinker", side=1024, candidate="green", seed=1, max_tokens=2))["choices"]
    assert client.get("/health").status_code == 200


def test_refusals_are_told_apart(client: httpx.Client) -> None:
    """Too many pictures, an unknown model, too long a prompt, an invalid constraint."""
    request = body("editthinker", max_tokens=1)
    crowd = {**request, "messages": request["messages"] * 10}
    long = {**request, "messages": [{"role": "user", "content": "word " * 20_000}]}
    broken = {**request, "structured_outputs": {"regex": "("}}
    stranger = {**request, "model": "another"}
    statuses = [client.post("/v1/chat/completions", json=sent).status_code for sent in (crowd, long, broken, stranger)]
    assert statuses == [400, 400, 400, 404]
