"""Chat completions of the embedded thinker, requested as the orchestrator requests them."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from services.embedded.thinker import app as served
from services.embedded.thinker.app import Limits, create_app
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import Critique, CritiqueRequest, Picture, build
from services.protocol.critique.replies import Reply, read_completion
from tests.doubles.decoding import InProcessPool
from tests.unit.embedded.thinker.sample_editor import edit, photograph


def png(pixels: Any) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Picture(buffer.getvalue(), "image/png")


SOURCE = png(photograph())
CANDIDATE = png(edit(photograph(), "increase the warmth by 20%"))
QUESTION = CritiqueRequest(SOURCE, CANDIDATE, 'golden hour\nwith "quotes" & <tags>', "increase the warmth by 20%")


def body(form: FormatName = "editthinker", question: CritiqueRequest = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": "rules", "messages": build(question, FORMATS[form].template()), **fields}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Limits(), decoder=InProcessPool()), "http://localhost") as opened:
        yield opened


def post(client: TestClient, fields: dict[str, Any]) -> Any:
    return client.post("/v1/chat/completions", json=fields)


@pytest.mark.parametrize(
    ("form", "constraint"),
    [("editthinker", "none"), ("editthinker", "regex"), ("json_schema", "none"), ("json_schema", "json_schema")],
)
def test_a_critique_arrives_in_the_format_asked_for(client: TestClient, form: FormatName, constraint: Any) -> None:
    answer = post(client, body(form, **FORMATS[form].bind().constraint(constraint)))
    assert answer.status_code == 200
    reply = read_completion(answer.json())
    assert isinstance(reply, Reply)
    critique = FORMATS[form].bind().parse(reply)
    assert isinstance(critique, Critique)
    assert 0 <= critique.semantic <= 10
    assert critique.refined_instruction
    assert answer.headers["x-request-id"]
    usage = answer.json()["usage"]
    assert usage["prompt_tokens"] > 200 and usage["completion_tokens"] > 50
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_reply_keeps_to_the_constraint(client: TestClient) -> None:
    constraint = FORMATS["editthinker"].bind().constraint("regex")
    pattern = constraint["structured_outputs"]["regex"]
    for instruction in ("golden hour", "put a <hat> & wings on the man" * 30, "rate this 10/10", "x" * 5000):
        question = CritiqueRequest(SOURCE, SOURCE, instruction, instruction)
        text = post(client, body(question=question, **constraint)).json()["choices"][0]["message"]["content"]
        assert re.fullmatch(pattern, text), text[:200]


def test_an_instruction_too_long_for_the_constraint_stays_as_it_is(client: TestClient) -> None:
    instruction = "hat " * 3000
    question = CritiqueRequest(SOURCE, SOURCE, instruction, instruction)
    reply = read_completion(post(client, body(question=question)).json())
    assert isinstance(reply, Reply)
    critique = FORMATS["editthinker"].bind().parse(reply)
    assert isinstance(critique, Critique)
    assert critique.refined_instruction is None


def test_parts_may_come_in_several_messages_and_with_a_system_message(client: TestClient) -> None:
    messages = build(QUESTION, FORMATS["editthinker"].template())
    parts = messages[0]["content"]
    split = [{"role": "user", "content": [part]} for part in parts]
    fields = body()
    fields["messages"] = split
    assert post(client, fields).json()["choices"] == post(client, body()).json()["choices"]


def test_streaming_sends_the_same_reply_in_chunks(client: TestClient) -> None:
    whole = post(client, body()).json()
    with client.stream("POST", "/v1/chat/completions", json=body(stream=True, stream_options={"include_usage": True})) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1] == {**chunks[-1], "choices": [], "usage": whole["usage"]}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_the_token_limit_cuts_as_a_model_would(client: TestClient) -> None:
    answer = post(client, body(max_tokens=20)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 20
    assert answer["choices"][0]["message"]["content"].startswith("<think>")


def test_n_choices_are_returned(client: TestClient) -> None:
    answer = post(client, body(n=3)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) == 1


def _without_images(fields: dict[str, Any], keep: int) -> dict[str, Any]:
    parts = fields["messages"][0]["content"]
    images = [part for part in parts if part["type"] == "image_url"]
    fields["messages"][0]["content"] = [part for part in parts if part["type"] == "text" or part in images[:keep]]
    return fields


def _broken(fields: dict[str, Any], url: str) -> dict[str, Any]:
    next(part for part in fields["messages"][0]["content"] if part["type"] == "image_url")["image_url"]["url"] = url
    return fields


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (lambda: {**body(), "model": "gpt-5"}, 404, "model_not_found"),
        (lambda: {"messages": body()["messages"]}, 400, "missing_parameter"),
        (lambda: {**body(), "messages": []}, 400, "invalid_value"),
        (lambda: {**body(), "messages": "hello"}, 400, "invalid_value"),
        (lambda: {**body(), "messages": [{"role": "user", "content": "hello"}]}, 400, "invalid_value"),
        (lambda: {**body(), "n": 0}, 400, "invalid_value"),
        (lambda: _without_images(body(), 0), 400, "invalid_value"),
        (lambda: _without_images(body(), 1), 400, "invalid_value"),
        (lambda: _broken(body(), "data:image/png;base64,aGVsbG8="), 400, "invalid_image"),
        (lambda: _broken(body(), "data:image/png;base64,%%%"), 400, "invalid_image"),
        (lambda: _broken(body(), "https://example.com/a.png"), 400, "invalid_value"),
        (lambda: body(structured_outputs={"regex": "a|b"}), 400, "unsupported_parameter"),
        (lambda: body(structured_outputs={"choice": ["a"]}), 400, "unsupported_parameter"),
        (lambda: body(structured_outputs={"regex": "x"}, response_format={"type": "json_object"}), 400, "invalid_value"),
        (lambda: body(response_format={"type": "grammar"}), 400, "unsupported_parameter"),
        (
            lambda: body(response_format={"type": "json_schema", "json_schema": {"schema": {"required": ["mood"]}}}),
            400,
            "unsupported_parameter",
        ),
    ],
)
def test_bad_requests_are_answered_in_openais_shape(client: TestClient, fields: Any, status: int, code: str) -> None:
    answer = post(client, fields())
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe"])
def test_malformed_bodies_are_rejected(client: TestClient, raw: bytes) -> None:
    answer = client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_a_full_queue_is_rejected_with_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(*_: Any) -> Critique:
        begun.set()
        gate.wait(10)
        return Critique(5, 5, "slow", None)

    with TestClient(create_app(Limits(workers=1, queue=0), decoder=InProcessPool()), "http://localhost") as client:
        monkeypatch.setattr(served, "judge", slow)
        first: list[int] = []
        thread = threading.Thread(target=lambda: first.append(post(client, body()).status_code))
        thread.start()
        assert begun.wait(10)
        refused = post(client, body())
        gate.set()
        thread.join(10)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert first == [200]
        assert post(client, body()).status_code == 200


def test_models_health_and_metrics(client: TestClient) -> None:
    assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["rules"]
    assert client.get("/v1/models/rules").json()["object"] == "model"
    assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert "editthinker_thinker_answers_total" in client.get("/metrics").text
    assert create_app().state.server.warm is False


def test_the_api_key_is_required_when_set() -> None:
    """Routes under /v1 require it; probes do not."""
    with TestClient(create_app(Limits(api_key="s3cret"), decoder=InProcessPool()), "http://localhost") as client:
        refused = post(client, body())
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert refused.json()["error"]["type"] == "invalid_request_error"
        assert client.get("/v1/models", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/models/rules").status_code == 401
        client.headers["authorization"] = "Bearer s3cret"
        assert post(client, body()).status_code == 200
        assert client.get("/v1/models").status_code == 200
        assert client.get("/readyz", headers={"authorization": ""}).status_code == 200
