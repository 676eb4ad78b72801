"""Any JSON gets 2xx, or 4xx with an OpenAI error, never 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.embedded.thinker import app as served
from services.embedded.thinker.app import Limits, create_app
from services.embedded.thinker.chat_completions import ChatRequest
from services.protocol.critique.messages import Critique
from tests.doubles.decoding import InProcessPool
from tests.unit.embedded.thinker.test_chat_server import body

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_WORDS = st.sampled_from(["text", "json_object", "json_schema", "<think><score><answer>", "{}", '{"required": [[]]}', "semantic"])
_KEYS = st.sampled_from(
    ["type", "json_schema", "schema", "required", "strict", "json", "regex", "choice", "grammar", "properties", "content", "url"]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAF | _WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | _TEXT, inner, max_size=4), max_leaves=12
)
_FORMATS = st.fixed_dictionaries(
    {"type": st.just("json_schema") | JSON},
    optional={"json_schema": JSON | st.fixed_dictionaries({"schema": JSON | st.fixed_dictionaries({"required": JSON})})},
)
_OUTPUTS = st.fixed_dictionaries({}, optional={"json": JSON, "regex": JSON, "choice": JSON, "grammar": JSON})
_HOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    patch = pytest.MonkeyPatch()
    with TestClient(create_app(Limits(), decoder=InProcessPool()), "http://localhost", raise_server_exceptions=False) as opened:
        # The judging is tested elsewhere; here it would only take time.
        patch.setattr(served, "judge", lambda *_: Critique(5, 5, "seen", None))
        yield opened
    patch.undo()


def send(client: TestClient, fields: Any) -> Any:
    sent = client.post("/v1/chat/completions", content=orjson.dumps(fields), headers={"content-type": "application/json"})
    assert sent.status_code < 500, fields
    if sent.status_code >= 400:
        assert set(sent.json()["error"]) == {"message", "type", "param", "code"}
        assert len(sent.content) < 2_000
    return sent


@_HOW
@example({"type": "json_schema", "json_schema": None}, None)
@given(_FORMATS | JSON, _OUTPUTS | JSON)
def test_an_arbitrary_constraint_never_fails_the_server(
    client: TestClient, response_format: Any, structured_outputs: Any
) -> None:
    send(client, body(response_format=response_format))
    send(client, body(structured_outputs=structured_outputs))
    send(client, body(response_format=response_format, structured_outputs=structured_outputs))


@_HOW
@given(
    JSON | st.dictionaries(st.sampled_from([*ChatRequest.model_fields]), JSON), st.sampled_from([*ChatRequest.model_fields]), JSON
)
def test_an_arbitrary_body_never_fails_the_server(client: TestClient, whole: Any, field: str, value: Any) -> None:
    send(client, whole)
    send(client, body(**{field: value}))
    send(client, {**body(), "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": value}, value]}] * 2})


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"response_format": {"type": "json_schema"}}, "missing_parameter"),
        ({"response_format": {"type": "json_schema", "json_schema": None}}, "missing_parameter"),
        ({"response_format": {"type": "json_schema", "json_schema": "x"}}, "invalid_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}}, "invalid_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"required": [[]]}}}}, "invalid_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"required": "semantic"}}}}, "invalid_value"),
        ({"response_format": {"type": ["text"]}}, "invalid_value"),
        ({"response_format": {"type": "x" * 100_000}}, "unsupported_parameter"),
        ({"structured_outputs": {"json": 3}}, "invalid_value"),
        ({"structured_outputs": {"json": "{"}}, "invalid_value"),
        ({"structured_outputs": {"json": '{"required": ["mood"]}'}}, "unsupported_parameter"),
        ({"structured_outputs": {"regex": ["<think>", "<score>", "<answer>"]}}, "invalid_value"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_broken_constraint_is_rejected_by_name(client: TestClient, fields: dict[str, Any], code: str) -> None:
    sent = send(client, body(**fields))
    assert sent.status_code == 400
    assert (sent.json()["error"]["code"], sent.json()["error"]["param"]) == (code, next(iter(fields)))


@pytest.mark.parametrize("schema", [{}, {"required": None}, {"required": ["semantic"]}, {"properties": 3}])
def test_a_schema_that_a_critique_satisfies_is_accepted(client: TestClient, schema: dict[str, Any]) -> None:
    schema_format = {"type": "json_schema", "json_schema": {"name": "critique", "schema": schema}}
    assert send(client, body(response_format=schema_format)).status_code == 200


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_deeply_nested_body_is_rejected(client: TestClient, depth: int) -> None:
    for opening in (
        b'"response_format":{"type":',
        b'"response_format":{"x":',
        b'"structured_outputs":{"json":',
        b'"messages":{"content":',
    ):
        raw = orjson.dumps(body())[:-1] + b"," + opening + b"[" * depth + b"]" * depth + b"}}"
        sent = client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
        assert sent.status_code < 500, opening
