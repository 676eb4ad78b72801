"""Metrics, dashboard, alerts and logs, on real processes watched by a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from tests.doubles.prometheus import Prometheus, promtool
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.telemetry.conftest import KEY, RULES, Stack, edited, until, whole_lines

pytestmark = pytest.mark.xdist_group("telemetry")
ROOT = Path(__file__).parents[3]
INSTRUCTIONS = ("make it look like a faded 1970s print", "warmer", "sharper", "golden hour", "darker, with more contrast")
BUSY = (
    *(
        "Sessions finished per minute, by reason",
        "Scores of the answers",
        "Session duration",
        "Time in the queue",
        "Turns per session",
    ),
    *("Edit duration", "Stages of an edit (p95)", "Editor utilisation", "Editor seconds per second, by outcome"),
    *("Critique duration", "Replies, by outcome", "Busy thinkers", "Tokens per second", "Live replicas"),
)
"""Panels that are not zero after a demo run. The others may be: nothing is queued, nothing fails, no webhook is called."""


def expressions() -> list[tuple[str, str]]:
    """Every query of the dashboard with its panel's title, as Grafana would ask it for a short range."""
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/editthinker.json").read_text("utf-8"))
    targets = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [(title, expression.replace("$__rate_interval", "30s")) for title, expression in targets]


def values(series: list[dict[str, Any]]) -> list[float]:
    return [number for one in series if not math.isnan(number := float(one["value"][1]))]


def lines(process: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(process)]


@pytest.fixture(scope="module")
def sessions(stack: Stack, watching: Prometheus) -> list[dict[str, Any]]:
    """A demo run, once Prometheus has seen the counters at rest."""
    until(lambda: len(values(watching.query("up == 1"))) == 4 and bool(watching.query("editthinker_replicas == 1")))
    return [edited(stack, instruction) for instruction in INSTRUCTIONS]


def test_the_metrics_are_named_by_convention(stack: Stack, sessions: list[dict[str, Any]]) -> None:
    """promtool finds nothing to say, and every metric of ours has a help text of its own."""
    for process in (stack.orchestrator, stack.editor, stack.thinker):
        text = httpx.get(f"{process.url}/metrics", trust_env=False).text
        assert promtool("check", "metrics", given=text) == ""
        helps = re.findall(r"^# HELP (editthinker_\w+) (.*)$", text, re.MULTILINE)
        assert len(helps) >= 3 and all(len(told.split()) >= 2 for _, told in helps)


def test_the_alerts_are_rules_and_do_what_they_say(tools: None) -> None:
    """promtool checks them, and runs their tests."""
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", "alerts_test.yml", folder=RULES.parent / "tests")


def test_every_query_of_the_dashboard_returns_data(stack: Stack, watching: Prometheus, sessions: list[dict[str, Any]]) -> None:
    """After a few sessions, no panel is empty."""
    asked = expressions()
    assert len(asked) > 30

    empty, idle = set(asked), set(BUSY)

    def all_busy() -> bool:
        # Rates need an edit between two scrapes, and have no value once the last one is half a minute ago.
        edited(stack, INSTRUCTIONS[0])
        for query in asked:
            found = values(watching.query(query[1]))
            if found:
                empty.discard(query)
            if any(found):
                idle.discard(query[0])
        return not empty and not idle

    until(all_busy)
    assert (empty, idle) == (set(), set())


def test_the_figures_are_those_of_the_sessions(watching: Prometheus, sessions: list[dict[str, Any]]) -> None:
    """Ends, turns, edits, scores and seconds add up to what the callers were told."""
    for body in sessions:
        assert body["scores"] is not None

    def total(expression: str) -> float:
        return sum(values(watching.query(expression)))

    finished = "sum(editthinker_sessions_finished_total)"
    same = (
        ("sum(editthinker_session_seconds_count)", finished),
        ("sum(editthinker_session_queue_seconds_count)", finished),
        ('sum(editthinker_editor_seconds_total{outcome="useful"})', "sum(editthinker_edit_seconds_sum)"),
        ('editthinker_edit_stage_seconds_count{stage="queue"}', "editthinker_edit_seconds_count"),
    )
    different: list[tuple[str, float, str, float]] = []

    def agree() -> bool:
        # Prometheus may scrape between two queries, and the parts of one session in two scrapes.
        pairs = [(one, total(one), other, total(other)) for one, other in same]
        different[:] = [pair for pair in pairs if pair[1] != pytest.approx(pair[3])]
        return not different and total(finished) >= len(sessions)

    until(agree)
    assert different == []
    assert total(finished) >= len(sessions)
    assert total('editthinker_answer_score_count{aspect="semantic"}') >= len(sessions)
    assert total("sum(editthinker_thinker_seconds_total)") > 0


def test_every_alert_is_evaluated_and_none_fires(watching: Prometheus, sessions: list[dict[str, Any]]) -> None:
    """A stack in which nothing is wrong wakes nobody."""
    until(lambda: all(rule["health"] == "ok" for rule in watching.rules()))
    rules = watching.rules()
    assert len(rules) > 15
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_every_alert_leads_to_a_section_that_helps() -> None:
    """Runbook links name a heading of docs/operations.md."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text("utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    alerts = RULES.read_text("utf-8")
    links = re.findall(r"runbook_url: docs/operations\.md#(\S+)", alerts)

    assert len(links) == len(re.findall(r"- alert: ", alerts)) > 15
    assert [link for link in links if link not in anchors] == []


def test_every_metric_of_ours_in_a_query_exists(stack: Stack, sessions: list[dict[str, Any]]) -> None:
    """Dashboard and alerts name no metric that nobody exports."""
    exported = "".join(
        httpx.get(f"{process.url}/metrics", trust_env=False).text for process in (stack.orchestrator, stack.editor, stack.thinker)
    )
    named = set(re.findall(r"\beditthinker_\w+", RULES.read_text("utf-8") + " ".join(text for _, text in expressions())))

    assert len(named) > 20
    assert [
        name for name in sorted(named) if not re.search(rf"^# TYPE {name.removesuffix('_bucket')}", exported, re.MULTILINE)
    ] == [name for name in sorted(named) if name.endswith(("_sum", "_count"))]


def test_every_line_of_the_log_is_json_with_the_ids_of_its_work(stack: Stack, sessions: list[dict[str, Any]]) -> None:
    """Request, session and tenant; the editor's and the thinker's lines have a request id too, and the edit's key."""
    first = sessions[0]["session_id"]
    until(lambda: any(line["event"] == "finished" and line.get("session_id") == first for line in lines(stack.orchestrator)))
    told = [line for line in lines(stack.orchestrator) if line.get("session_id") == first]

    created = next(line for line in told if line["event"] == "request")
    assert (created["method"], created["path"], created["status"]) == ("POST", "/v1/images/edits", 200)
    assert created["request_id"].startswith("req_") and created["duration_ms"] > 0
    finished = next(line for line in told if line["event"] == "finished")
    assert (finished["tenant"], finished["service"], finished["turns"]) == ("default", "orchestrator", sessions[0]["turns"])
    edits = [line for line in lines(stack.editor) if line.get("path") == "/v1/images/edits"]
    assert any(line["edit_key"] == f"{first}/1/1" and len(line["request_id"]) == 36 for line in edits)
    assert any(line.get("path") == "/v1/chat/completions" and line["request_id"] for line in lines(stack.thinker))
    assert all({"timestamp", "level", "logger", "event", "service"} <= line.keys() for line in lines(stack.orchestrator))


def test_nobody_writes_lines_of_their_own_into_the_log(stack: Stack) -> None:
    """Newlines, control characters, JSON and keys from callers stay inside the values, or outside the log."""
    evil = 'x%0A{"level":"critical","event":"all is lost"}%1b[2J'
    with httpx.Client(base_url=stack.orchestrator.url, trust_env=False) as client:
        client.get(f"/v1/sessions/{evil}", headers={"x-request-id": 'a" "b', "authorization": f"Bearer {KEY}"})
        client.get(f"/{evil}")
        fields = {"prompt": 'x\n{"level":"critical"}\r\x1b[2J', "model": 'no\nsuch\x00"'}
        client.post("/v1/images/edits", data=fields, files={"image": picture()})
    until(lambda: sum("all is lost" in json.dumps(line) for line in lines(stack.orchestrator)) >= 1)
    text = stack.orchestrator.log.read_text("utf-8")

    assert [line for line in lines(stack.orchestrator) if line["level"] == "critical" or line["event"] == "all is lost"] == []
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    for process in (stack.orchestrator, stack.editor, stack.thinker):
        assert KEY not in process.log.read_text("utf-8")


def test_a_failed_edit_is_told_with_its_turn(start_orchestrator: Start, script: Script) -> None:
    """Session, tenant, turn, candidate, attempt and code."""
    script.edit_fault = lambda _: Response(status_code=400)
    process = start_orchestrator()
    reply = httpx.post(
        f"{process.url}/v1/images/edits", data={"prompt": "x"}, files={"image": picture()}, timeout=30, trust_env=False
    )
    assert reply.status_code >= 400
    until(lambda: {"finished", "request"} <= {line["event"] for line in lines(process)})
    failed = next(line for line in lines(process) if line["event"] == "edit_failed")

    assert (failed["turn"], failed["candidate"], failed["attempt"], failed["code"]) == (1, 1, 1, "editor_refused")
    assert failed["level"] == "warning" and failed["tenant"] == "default"
    assert failed["session_id"] == next(line for line in lines(process) if line["event"] == "request")["session_id"]
