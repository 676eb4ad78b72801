"""A request to a wrong path, with a wrong method, or with a key sent in another way is told what to change."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from orchestrator.app import _OTHER_PATHS, create_app
from orchestrator.settings import Settings
from services.editor.app import _OTHER_PATHS as WORKERS_OTHER_PATHS
from services.editor.app import create_app as create_worker
from services.editor.settings import Settings as WorkerSettings
from services.serving.bearer import how_to_send, token_of
from services.serving.wrong_paths import method_not_allowed, not_found

UPSTREAM = {"e": {"url": "http://127.0.0.1:1/v1", "model": "m"}}
GIVEN: dict[str, Any] = {"editors": UPSTREAM, "thinkers": UPSTREAM}
WORKERS: dict[str, Any] = {"pipeline": "classical"}
PATHS = create_app(Settings(**GIVEN)).openapi()["paths"]
WORKER_PATHS = create_worker(WorkerSettings(**WORKERS)).openapi()["paths"]


def told(path: str) -> str:
    return not_found(path, PATHS, _OTHER_PATHS)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/images/edits", ["/v1/images/edits", "add /v1", "base URL"]),
        ("/v1/v1/images/edits", ["/v1 twice", "/v1/images/edits"]),
        ("/v1/images/edits/", ["slash", "/v1/images/edits"]),
        ("/v1/sessions/ses_1/", ["slash", "/v1/sessions/ses_1"]),
        ("/sessions/ses_1/events", ["/v1/sessions/ses_1/events", "base URL"]),
        ("/v1/images/generations", ["POST /v1/images/edits", "text alone"]),
        ("/images/generations", ["POST /v1/images/edits"]),
        ("/v1/images/variations", ["POST /v1/images/edits", "n and strategy"]),
        ("/v1/responses", ["POST /v1/images/edits", "Responses"]),
        ("/v1/chat/completions", ["POST /v1/images/edits", "chat"]),
        ("/v1/files", ["POST /v1/images/edits", "with the request"]),
        ("/openai/deployments/gpt-image-1/images/edits", ["Azure", "/v1/images/edits", "model"]),
        ("/openai/deployments/gpt-image-1/images/generations", ["POST /v1/images/edits"]),
        ("/openai/v1/images/edits", ["Azure", "/v1/images/edits"]),
        ("/v1/image/edits", ["did you mean /v1/images/edits?"]),
        ("/edit", ["POST /v1/images/edits"]),
        ("/nothing/like/it", ["/docs"]),
        ("/" + "x" * 100_000, ["/docs"]),
        ("/v1/sessions/ses_\n1/", ["slash", "\\\\n1"]),
    ],
)
def test_a_wrong_path(path: str, words: list[str]) -> None:
    message = told(path)

    assert all(word.replace("\\\\", "\\") in message for word in words), message
    assert len(message) < 400 and message.isprintable()


@pytest.mark.parametrize("path", ["/images/edits", "/v1/images/edits/", "/v1/images/generations", "/v1/chat/completions"])
def test_a_wrong_path_of_a_worker(path: str) -> None:
    assert "/v1/images/edits" in not_found(path, WORKER_PATHS, WORKERS_OTHER_PATHS)


def test_every_other_path_says_what_to_send() -> None:
    for known in (_OTHER_PATHS, WORKERS_OTHER_PATHS):
        assert known and all(path.startswith("/") and "POST /v1/images/edits" in text for path, text in known.items())


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/v1/images/edits", "does not take GET; send POST"),
        ("PUT", "/v1/sessions", "does not take PUT; send GET or POST"),
        ("POST", "/v1/models", "send GET"),
    ],
)
def test_a_wrong_method(method: str, path: str, words: str) -> None:
    """All methods of the path are named, also those of other routes."""
    assert words in method_not_allowed(method, path, PATHS)


def request(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs})


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "send your API key"),
        ({"authorization": "Token secret"}, "the scheme Token"),
        ({"authorization": "Basic c2VjcmV0"}, "the scheme Basic"),
        ({"authorization": "Api-Key secret"}, "the scheme Api-Key"),
        ({"authorization": "secret"}, "a value without a scheme"),
        ({"authorization": "Bearer"}, "nothing after Bearer"),
        ({"authorization": "Bearer  "}, "nothing after Bearer"),
        ({"api_key": "secret"}, "in the header api-key"),
        ({"x_api_key": "secret"}, "in the header x-api-key"),
    ],
)
def test_a_key_that_was_sent_in_another_way(headers: dict[str, str], words: str) -> None:
    """What was found is named, never the key, and what to write."""
    asked = request(**headers)
    message = how_to_send(asked, "et_…")

    assert token_of(asked) is None
    assert words in message and "Authorization: Bearer et_…" in message
    assert "secret" not in message.replace("the scheme", "") and "c2VjcmV0" not in message


def test_a_bearer_token_is_read() -> None:
    assert token_of(request(authorization="bearer  et_1 ")) == "et_1"
