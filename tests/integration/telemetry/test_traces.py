"""One trace shows all hops of a session: real processes, a collector's double."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.doubles.otlp import Seen, collector
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.telemetry.conftest import Stack, edited, until, whole_lines
from tests.integration.test_sessions import create

pytestmark = pytest.mark.xdist_group("telemetry")
CALLER = "0af7651916cd43dd8448eb211c80319c"
SERVER, CLIENT = 2, 3


def test_one_trace_shows_all_hops_of_a_session(stack: Stack) -> None:
    """Its id is the session's; session, turns, edits, calls, the editor's and the thinker's requests and stages nest in it."""
    body = edited(stack, "make it look like a faded 1970s print", traceparent=f"00-{CALLER}-b7ad6b7169203331-01")
    trace = body["session_id"].removeprefix("ses_")
    asked = ("session", "turn", "edit", "POST /images/edits", "POST /v1/images/edits")
    judged = ("session", "turn", "critique", "chat rules", "POST /chat/completions", "POST /v1/chat/completions")
    stages = [(*asked, stage) for stage in ("read", "queue", "edit", "write")]

    def arrived() -> bool:
        # Each of the three processes sends its own spans, and none waits for another.
        paths = _paths(stack.collected.of(trace))
        wanted = [("session", "drive"), judged, *(path for path in (asked, *stages) for _ in range(body["edits"]))]
        return not Counter(wanted) - paths and not any("?" in path for path in paths)

    until(arrived)
    spans = stack.collected.of(trace)
    by_id = {span.span: span for span in spans}

    assert len(by_id) == len(spans)
    roots = [span for span in spans if not span.parent]
    assert [root.name for root in roots] == ["session"]
    assert roots[0].attributes["editthinker.finish_reason"] == body["finish_reason"]
    assert [span for span in spans if span.parent and span.parent not in by_id] == []

    paths = _paths(spans)
    assert paths[asked] == body["edits"] and all(paths[stage] == body["edits"] for stage in stages)
    assert paths[judged] >= 1 and paths["session", "turn"] == body["turns"] and paths["session", "drive"] == 1
    assert {span.service for span in spans} == {f"editthinker-{name}" for name in ("orchestrator", "editor", "thinker")}
    assert all(not span.failed for span in spans)
    for span in spans:
        above = by_id.get(span.parent)
        # Machines have one clock here; turns and the session use recorded times, by Redis' clock as it was last measured.
        if above is not None:
            slack_s = 0.5 if above.name in {"turn", "session"} else 0.05
            assert above.began - slack_s <= span.began, span
            # A server's span may end at any time after its reply was sent, and so after the caller's.
            assert span.service != above.service or span.ended <= above.ended + 0.5, span


def _paths(spans: list[Seen]) -> Counter[tuple[str, ...]]:
    """How often each path of names occurs; it begins with ? below a span that is not there."""
    by_id = {span.span: span for span in spans}

    def path(span: Seen) -> tuple[str, ...]:
        if not span.parent:
            return (span.name,)
        return (*(path(by_id[span.parent]) if span.parent in by_id else ("?",)), span.name)

    return Counter(map(path, spans))


def test_the_creating_request_is_in_its_callers_trace_and_linked(stack: Stack) -> None:
    """A caller's traceparent is honoured; the request's span leads on to the session's trace."""
    body = edited(stack, "warmer", traceparent=f"00-{CALLER[::-1]}-b7ad6b7169203331-01")
    until(lambda: any(span.kind == SERVER for span in stack.collected.of(CALLER[::-1])))
    request = next(span for span in stack.collected.of(CALLER[::-1]) if span.kind == SERVER)

    assert (request.name, request.parent) == ("POST /v1/images/edits", "b7ad6b7169203331")
    assert request.links == [body["session_id"].removeprefix("ses_")]
    assert request.attributes["http.response.status_code"] == 200


def test_calls_of_thinkers_follow_the_conventions_for_generative_ai(stack: Stack) -> None:
    """At both ends: the operation, the model and the tokens; never what was asked or answered."""
    body = edited(stack, "a little darker please")
    trace = body["session_id"].removeprefix("ses_")
    until(lambda: any(span.name == "session" for span in stack.collected.of(trace)))
    until(
        lambda: any("gen_ai.usage.input_tokens" in span.attributes for span in stack.collected.of(trace) if span.kind == SERVER)
    )
    told = [span for span in stack.collected.of(trace) if "gen_ai.operation.name" in span.attributes]

    assert {span.kind for span in told} == {SERVER, CLIENT}
    for span in told:
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.request.model"] == "rules"
        assert span.attributes["gen_ai.usage.input_tokens"] > 0 and span.attributes["gen_ai.usage.output_tokens"] > 0
        assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    everything = json.dumps([span.attributes for span in stack.collected.of(trace)])
    assert "darker" not in everything


def test_the_pools_log_names_the_trace(stack: Stack) -> None:
    """HAProxy passes the header on untouched and writes it down."""
    body = edited(stack, "brighter")
    trace = body["session_id"].removeprefix("ses_")

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in whole_lines(stack.pool) if line.startswith("{")]
        return [line for line in found if line["traceparent"].startswith(f"00-{trace}-")]

    until(lambda: len(lines()) >= body["edits"])
    assert len(lines()) == body["edits"]
    assert {line["key"].partition("/")[0] for line in lines()} == {body["session_id"]}
    until(lambda: {line["traceparent"].split("-")[2] for line in lines()} <= {s.span for s in stack.collected.of(trace)})
    assert {line["traceparent"].split("-")[2] for line in lines()} <= {span.span for span in stack.collected.of(trace)}


def test_logs_name_the_trace_of_the_line(stack: Stack) -> None:
    """Orchestrator, editor and thinker: a line that belongs to a session's work has the session's trace id."""
    body = edited(stack, "more contrast")
    trace = body["session_id"].removeprefix("ses_")
    for process in (stack.orchestrator, stack.editor, stack.thinker):

        def named(process: Process = process) -> bool:
            # The request that created the session names the session too, but not its trace.
            return any(json.loads(line).get("trace_id") == trace for line in whole_lines(process))

        until(named)
        assert named(), process.log


def test_a_takeover_goes_on_in_the_same_trace(start_orchestrator: Start, script: Script) -> None:
    """A replica is killed with -9 in turn 2: what it had sent and what the next one did nest below one session."""
    with collector() as collected:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        script.hold_edit = 2
        first = start_orchestrator(**env)
        with httpx.Client(base_url=first.url, timeout=10, trust_env=False) as api:
            session_id = create(api, seed=3).json()["id"]
        trace = session_id.removeprefix("ses_")
        until(lambda: len(script.edits) == 2)
        until(lambda: any(span.name == "turn" for span in collected.of(trace)))
        first.kill()
        script.hold_edit = None
        second = start_orchestrator(**env)
        until(lambda: any(span.name == "drive" for span in collected.of(trace)), 30)
        spans = collected.of(trace)

    ids = {span.span for span in spans}
    assert [span.name for span in spans if not span.parent] == ["session"]
    assert [span.name for span in spans if span.parent and span.parent not in ids] == []
    turns = [
        (span.attributes["editthinker.turn"], span.instance.endswith(f"-{first.popen.pid}"))
        for span in spans
        if span.name == "turn"
    ]
    assert sorted(turns) == [(1, True), (2, False), (3, False)]
    assert {span.instance.rpartition("-")[2] for span in spans} == {str(first.popen.pid), str(second.popen.pid)}
