"""A request chooses a LoRA by its registered name, as a field or as the model; never by a path."""

from __future__ import annotations

from typing import Any

import pytest

from services.editor.pipelines import Capabilities, LoraChoice, LoraModule
from services.editor.pipelines.lora_modules import parse
from services.editor.settings import Settings
from tests.unit.editor.workers import HeldPipeline, client, post, running

ABLE = Capabilities(loras={"anime": 1.0, "relight": 0.8})


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ({}, None),
        ({"model": "held"}, None),
        ({"lora": "relight"}, LoraChoice("relight", 0.8)),
        ({"lora": "relight", "lora_scale": -1}, LoraChoice("relight", -1.0)),
        ({"model": "anime"}, LoraChoice("anime", 1.0)),
        ({"model": "anime", "lora": "anime", "lora_scale": 0.5}, LoraChoice("anime", 0.5)),
        ({"model": "held", "lora": "anime"}, LoraChoice("anime", 1.0)),
    ],
)
async def test_a_request_names_a_lora(fields: dict[str, Any], chosen: LoraChoice | None) -> None:
    """OpenAI's clients can set the model only."""
    pipeline = HeldPipeline(ABLE)
    async with running(lambda: pipeline) as app, client(app) as http:
        assert (await post(http, **fields)).status_code == 200
        assert pipeline.seen[-1].lora == chosen


@pytest.mark.parametrize(
    ("fields", "status", "param", "told"),
    [
        ({"lora": "other"}, 400, "lora", "there is no LoRA 'other' here; registered are: anime, relight"),
        ({"lora": "/loras/anime.safetensors"}, 400, "lora", "no path or hub id"),
        ({"lora": "../anime"}, 400, "lora", "no path or hub id"),
        ({"lora": "someone/anime"}, 400, "lora", "no path or hub id"),
        ({"model": "someone/anime"}, 404, "model", "serves 'held', and with a LoRA 'anime', 'relight'"),
        ({"lora": "anime", "lora_scale": 5}, 400, "lora_scale", "less than or equal to 4"),
        ({"lora": "anime", "lora_scale": "nan"}, 400, "lora_scale", "lora_scale"),
        ({"lora_scale": 1}, 400, "lora_scale", "send lora too"),
        ({"model": "anime", "lora": "relight"}, 400, "lora", "leave lora out"),
    ],
)
async def test_another_name_is_refused(fields: dict[str, Any], status: int, param: str, told: str) -> None:
    pipeline = HeldPipeline(ABLE)
    async with running(lambda: pipeline) as app, client(app) as http:
        answer = await post(http, **fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
        assert told in answer.json()["error"]["message"]
        assert pipeline.edits == 0


async def test_a_worker_without_loras_refuses_the_fields() -> None:
    async with running(HeldPipeline) as app, client(app) as http:
        sent: tuple[dict[str, Any], ...] = ({"lora": "anime"}, {"lora_scale": 1})
        for fields in sent:
            refused = (await post(http, **fields)).json()["error"]
            assert (refused["code"], [refused["param"]]) == ("unsupported_parameter", list(fields))


async def test_the_models_list_has_each_lora_with_its_parent() -> None:
    """As vLLM's does; a LoRA's own entry takes no other one."""
    async with running(lambda: HeldPipeline(ABLE)) as app, client(app) as http:
        base, *others = (await http.get("/v1/models")).json()["data"]
        assert (base["id"], base["parent"], base["capabilities"]["loras"]) == ("held", None, {"anime": 1.0, "relight": 0.8})
        assert [(each["id"], each["parent"]) for each in others] == [("anime", "held"), ("relight", "held")]
        assert others[1]["capabilities"] == {**base["capabilities"], "loras": {"relight": 0.8}}
        assert (await http.get("/v1/models/relight")).json() == others[1]
        assert (await http.get("/v1/models/other")).status_code == 404


async def test_edits_are_counted_by_lora() -> None:
    """The labels are the registered names, so no request can make one."""
    async with running(lambda: HeldPipeline(ABLE)) as app, client(app) as http:
        sent: tuple[dict[str, Any], ...] = ({}, {"lora": "anime"}, {"model": "anime"}, {"lora": "nope"}, {"model": "nope"})
        for fields in sent:
            await post(http, **fields)
        text = (await http.get("/metrics")).text
    counted = [line for line in text.splitlines() if line.startswith("editthinker_editor_lora_requests_total")]
    assert counted == ['editthinker_editor_lora_requests_total{lora="anime"} 2.0']


async def test_a_repeated_key_with_another_lora_is_another_request() -> None:
    async with running(lambda: HeldPipeline(ABLE)) as app, client(app) as http:
        key = {"idempotency-key": "k"}
        assert (await post(http, key, seed=1, lora="anime")).status_code == 200
        refused = await post(http, key, seed=1, lora="relight")
        assert refused.json()["error"]["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("", ()),
        ("a=/loras/a.safetensors  b=org/b", (LoraModule("a", "/loras/a.safetensors"), LoraModule("b", "org/b"))),
        ("a=x=y", (LoraModule("a", "x=y"),)),
        (
            '[{"name": "a.1", "path": "org/a", "file": "f.safetensors", "revision": "abc", "scale": 0.5}]',
            (LoraModule("a.1", "org/a", "f.safetensors", "abc", 0.5),),
        ),
    ],
)
def test_the_list_is_read_in_both_forms_of_vllm(text: str, modules: tuple[LoraModule, ...]) -> None:
    assert parse(text) == modules


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/loras/a", "'/loras/a' is not name=path"),
        ("a/b=x", "no path or hub id"),
        ("a=", "at least 1 character"),
        ("a=x a=y", "'a' is registered twice"),
        ('[{"name": "a", "path": "x", "weight": 1}]', "weight"),
        ('[{"name": "a", "path": "x", "scale": 9}]', "scale"),
        ('{"name": "a", "path": "x"}', "valid list"),
        ("[", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_wrong_list_is_refused_with_what_to_write(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pipeline": "classical"}, "the classical editor takes no LoRA"),
        ({"compile": "inductor"}, "would be compiled again for each of them"),
        ({"quantization": "int8wo"}, "with fp8 only"),
        ({"offload": "group"}, "use offload=model"),
        ({"parallel": "ulysses"}, "the other processes would not switch"),
    ],
)
def test_options_that_do_not_work_with_loras_are_refused_at_once(settings: dict[str, Any], told: str) -> None:
    model = {"pipeline": "kontext", "model": "x", **settings} if "pipeline" not in settings else settings
    with pytest.raises(ValueError, match=told):
        Settings(**{**model, "loras": "a=x"})
    assert Settings(**model).tuning().loras == ()


def test_the_settings_reach_the_pipeline() -> None:
    given: dict[str, Any] = {"pipeline": "kontext", "model": "x", "loras": "a=x", "lora_bytes": 5}
    tuning = Settings(**given).tuning()
    assert (tuning.loras, tuning.lora_bytes) == ((LoraModule("a", "x"),), 5)
