"""schemathesis over the orchestrator's OpenAPI document: no 5xx, no undocumented status, no undocumented shape."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orchestrator.api.examples import IMAGES, MODELS, SESSIONS
from orchestrator.api.models import Models
from orchestrator.api.view import SessionList
from services.protocol.images_api import ImagesResponse
from tests.doubles.processes import Process
from tests.integration.test_sessions import create

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


OPERATIONS = [
    ("/v1/images/edits", "post"),
    ("/v1/provenance", "post"),
    ("/v1/sessions", "post"),
    ("/v1/sessions", "get"),
    ("/v1/sessions/{session_id}", "get"),
    ("/v1/sessions/{session_id}", "delete"),
    ("/v1/sessions/{session_id}/image", "get"),
    ("/v1/sessions/{session_id}/source", "get"),
    ("/v1/sessions/{session_id}/references/{number}", "get"),
    ("/v1/sessions/{session_id}/mask", "get"),
    ("/v1/sessions/{session_id}/turns/{turn}/candidates/{candidate}/image", "get"),
    ("/v1/sessions/{session_id}/turns/{turn}/candidates/{candidate}/answer", "get"),
    ("/v1/sessions/{session_id}/turns/{turn}/candidates/{candidate}/preview", "get"),
    ("/v1/sessions/{session_id}/cancel", "post"),
    ("/v1/sessions/{session_id}/feedback", "post"),
    ("/v1/sessions/{session_id}/events", "get"),
    ("/v1/sessions/{session_id}/deliveries", "get"),
    ("/v1/sessions/{session_id}/shares", "post"),
    ("/v1/sessions/{session_id}/shares", "get"),
    ("/v1/sessions/{session_id}/shares/{share_id}", "get"),
    ("/v1/sessions/{session_id}/shares/{share_id}", "delete"),
    ("/v1/export", "get"),
    ("/v1/preferences", "post"),
    ("/v1/preferences", "get"),
    ("/v1/preferences/export", "get"),
    ("/v1/preferences/{preference_id}", "delete"),
    ("/v1/training", "get"),
    ("/v1/training", "delete"),
    ("/v1/sessions/{session_id}/training", "get"),
    ("/v1/sessions/{session_id}/training", "delete"),
    ("/v1/sessions/{session_id}/critiques/{seq}", "get"),
    ("/v1/webhooks", "post"),
    ("/v1/webhooks", "get"),
    ("/v1/webhooks/{webhook_id}", "get"),
    ("/v1/webhooks/{webhook_id}", "delete"),
    ("/v1/webhooks/{webhook_id}/test", "post"),
    ("/v1/webhooks/{webhook_id}/rotate_secret", "post"),
    ("/v1/models", "get"),
    ("/v1/models/{model}", "get"),
    ("/v1/sign_in", "get"),
    ("/v1/sign_in", "post"),
    ("/v1/sign_in", "delete"),
    ("/health", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
]


def test_all_operations_are_listed_here(api: httpx.Client) -> None:
    """A new route must be tested too."""
    paths = api.get("/openapi.json").json()["paths"]

    assert sorted(OPERATIONS) == sorted((path, method) for path, methods in paths.items() for method in methods)


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_every_answer_is_documented(api: httpx.Client, orchestrator: Process, path: str, method: str) -> None:
    """For generated requests; half of the session ids are those of an existing session."""
    document = schemathesis.openapi.from_url(f"{orchestrator.url}/openapi.json")
    real = existing(api)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=document[path][method].as_strategy(), known=st.booleans())
    def check(case: Any, known: bool) -> None:  # noqa: FBT001
        if known and "session_id" in (case.path_parameters or {}):
            case.path_parameters["session_id"] = real
        case.call_and_validate(checks=CHECKS, timeout=20)

    check()


def existing(api: httpx.Client) -> str:
    """A finished session, so that routes below it are reached."""
    listed = api.get("/v1/sessions?status=succeeded&limit=1").json()["data"]
    found: str = listed[0]["id"] if listed else create(api, wait=20, max_turns=1).json()["id"]
    return found


def test_every_operation_has_an_example_or_a_description(api: httpx.Client) -> None:
    """The document is meant to be read. What takes nothing and answers nothing needs no example."""
    paths = api.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation.get("description"), (path, method)
            assert "500" in operation["responses"], (path, method)
            told = [r.get("content") for status, r in operation["responses"].items() if status.startswith("2")]
            told += [operation.get("requestBody"), operation.get("parameters")]
            assert "example" in json.dumps(told) or not any(told), (path, method)


def test_rates_and_waits_are_documented_where_they_are_sent(api: httpx.Client) -> None:
    """The headers of rates where requests are counted, `Retry-After` where to ask again makes sense."""
    paths = api.get("/openapi.json").json()["paths"]

    def headers(path: str, method: str, status: int) -> set[str]:
        return set(paths[path][method]["responses"][str(status)].get("headers", {}))

    rates = {"RateLimit", "RateLimit-Policy"}
    assert headers("/v1/images/edits", "post", 200) == rates
    assert headers("/v1/images/edits", "post", 429) == headers("/v1/sessions", "post", 202) == {*rates, "Retry-After"}
    assert headers("/v1/sessions", "post", 401) == set()
    assert headers("/v1/sessions/{session_id}", "get", 200) == headers("/v1/models", "get", 503) == {"Retry-After"}
    assert headers("/v1/models", "get", 200) == set()


def test_the_examples_are_what_the_models_say() -> None:
    """An example that drifts from its model misleads."""
    SessionList.model_validate(SESSIONS, strict=False)
    ImagesResponse.model_validate(IMAGES)
    Models.model_validate(MODELS)
