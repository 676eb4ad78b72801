"""Spans without an endpoint are no-ops, and ids are derived from the session's."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from services.serving import tracing
from tests.doubles.waiting import LIMIT_S

SESSION = "ses_0af7651916cd43dd8448eb211c80319c"


def test_without_an_endpoint_the_sdk_is_not_imported_and_no_context_is_propagated() -> None:
    """Neither by the module, nor by configuring no endpoint."""
    code = """
import sys
from services.serving import middleware
from services.serving import tracing
before = {name for name in sys.modules if name.startswith("opentelemetry.sdk") or name.startswith("opentelemetry.exporter")}
tracing.configure("x", None)
assert not before and not tracing.enabled() and tracing.headers() == {} and tracing.ids() == {}
with tracing.span("a", attributes={"b": 1}) as span:
    span.set_attributes({"c": 2})
    tracing.fail(span, "d")
    assert tracing.headers() == {} and tracing.ids() == {}
root = tracing.session_context("f")
with tracing.span("child", parent=root), tracing.server_span("GET", {"traceparent": f"00-{1:032x}-{2:016x}-01"}):
    assert tracing.headers() == {} and tracing.ids() == {}
tracing.record("e", (1.0, 2.0), ids=root); tracing.close()
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_endpoint_without_the_packages_is_logged_and_does_no_harm() -> None:
    """The service runs, without traces."""
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from services.serving import logs
from services.serving import tracing
logs.configure("info", "text", service="x")
tracing.configure("x", "http://127.0.0.1:9")
assert not tracing.enabled()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'editthinker[otel]'" in done.stderr


def test_an_unreachable_collector_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends although the last spans are still being sent."""
    sent = threading.Event()

    class Unreachable:
        def shutdown(self) -> None:
            sent.wait(LIMIT_S)

    monkeypatch.setattr(tracing, "_provider", Unreachable())
    monkeypatch.setattr(tracing, "_CLOSE_TIMEOUT_S", 0.01)
    tracing.close()
    assert not sent.is_set()
    sent.set()


def test_span_ids_are_derived_from_the_sessions() -> None:
    """The trace is the session's id; root and turns have ids of their own, the same in every process."""
    root = tracing.session_context(SESSION)
    turns = [tracing.turn_context(SESSION, number) for number in (1, 2)]

    assert f"{root.trace_id:032x}" == SESSION.removeprefix("ses_")
    assert {ref.trace_id for ref in turns} == {root.trace_id}
    assert len({root.span_id, *(ref.span_id for ref in turns)}) == 3
    odd = tracing.session_context("ses_of-a-test")
    assert 0 < odd.trace_id < 2**128 and 0 < odd.span_id < 2**64


@pytest.mark.parametrize("completion", [None, [], "x", {}, {"usage": 3, "choices": 4, "model": []}, {"choices": [None, {}]}])
def test_any_json_value_is_accepted_as_a_completion(completion: object) -> None:
    """A server may answer anything."""
    assert set(tracing.chat_response(completion)) <= {"gen_ai.response.finish_reasons"}


def test_attributes_of_a_chat_are_counts_and_names() -> None:
    """Never texts."""
    fields = {"model": "m", "temperature": 0.5, "max_tokens": 10, "n": 2, "seed": True, "messages": [{"content": "secret"}]}
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 4}}
    choices = [{"message": {"content": "secret"}, "finish_reason": "stop"}]
    attributes = tracing.chat_request(fields) | tracing.chat_response(
        {"id": "i", "model": "m2", "usage": usage, "choices": choices}
    )

    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 10,
        "gen_ai.request.choice.count": 2,
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.response.model": "m2",
        "gen_ai.response.id": "i",
        "gen_ai.response.finish_reasons": ["stop"],
    }
