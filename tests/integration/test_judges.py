"""Sessions whose judge is not their thinker: a real Redis, a real orchestrator, and both behind real HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from services.protocol.critique.messages import Judgement, read
from services.protocol.critique.prompts import Template
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_choosing import events_of
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until


def asked_of_the_thinker(script: Script) -> list[Any]:
    return [read(body["messages"], [Template.named("editthinker")]) for body in script.critiques]


def test_the_judge_scores_and_the_thinker_is_told_and_writes_the_next_instruction(api: httpx.Client, script: Script) -> None:
    script.scores = [(3, 9), (9, 9)]
    session = create(api, wait=20, seed=5, judge="strict").json()

    assert (session["finish_reason"], session["judge"], session["thinker"]) == ("satisfied", "strict", "double")
    assert [turn["instruction"] for turn in session["turns"]] == ["make it golden", "make it golden +"]
    assert len(script.judged) == 2
    (asked,) = asked_of_the_thinker(script)
    assert asked.judgement == Judgement(3.0, 9.0, "judgement 1")
    (first,) = session["turns"][0]["candidates"]
    assert (first["scores"]["semantic"], first["reasoning"]) == (3.0, "judgement 1")
    assert (first["refined_instruction"], first["refinement_reasoning"]) == ("make it golden +", "critique 1")
    kinds = [event["type"] for event in events_of(api, session)]
    assert kinds.count("critiqued") == 2 and kinds.count("refined") == 1
    assert session["totals"]["prompt_tokens"] == 2 * 50 + 100
    exported = [json.loads(line) for line in api.get("/v1/export").text.splitlines()]
    assert exported[0]["events"][0]["judge"] == "strict"


def test_without_a_judge_one_call_scores_and_refines(api: httpx.Client, script: Script) -> None:
    script.scores = [(3, 9), (9, 9)]
    session = create(api, wait=20, seed=5).json()

    assert (session["judge"], len(script.critiques), script.judged) == ("double", 2, [])
    assert "judge" not in events_of(api, session)[0]


def test_a_thinker_can_be_named_as_the_judge(api: httpx.Client, script: Script) -> None:
    script.scores = [(9, 9)]
    session = create(api, wait=20, thinker="double-json", judge="double").json()

    assert (session["finish_reason"], session["judge"], len(script.critiques)) == ("satisfied", "double", 1)


def test_an_unknown_judge_is_refused_with_those_that_are_known(api: httpx.Client) -> None:
    reply = create(api, judge="nobody")

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "judge"
    assert "strict, double, double-json" in reply.json()["error"]["message"]


def test_the_configuration_names_the_default(start_orchestrator: Start, script: Script) -> None:
    script.scores = [(9, 9)]
    process = start_orchestrator(EDITTHINKER_DEFAULT_JUDGE="strict")
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        by_default = create(api, wait=20).json()
        named = create(api, wait=20, judge="double").json()
        models = api.get("/v1/models").json()
        card = api.get("/v1/models/strict").json()
        metrics = api.get("/metrics").text

    assert (by_default["judge"], named["judge"]) == ("strict", "double")
    assert (len(script.judged), len(script.critiques)) == (1, 1)
    assert [(model["id"], model["owned_by"], model["ready"]) for model in models["judges"]] == [("strict", "judge", True)]
    assert card["owned_by"] == "judge"
    assert 'editthinker_thinker_seconds_total{thinker="strict"}' in metrics


def test_a_judge_that_fails_leaves_the_answer_unscored_and_the_thinker_out(
    start_orchestrator: Start, upstreams: str, script: Script
) -> None:
    broken = {"broken": {"url": f"{upstreams}/nothing/v1", "model": "x", "attempts": 1}}
    process = start_orchestrator(EDITTHINKER_JUDGES=json.dumps(broken))
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        session = create(api, wait=20, judge="broken", max_turns=1).json()
        metrics = api.get("/metrics").text

    (candidate,) = session["turns"][0]["candidates"]
    assert (session["status"], candidate["status"], script.critiques) == ("succeeded", "unscored", [])
    assert 'editthinker_failures_total{code="thinker_misconfigured",role="judge"}' in metrics


def judges(upstreams: str) -> str:
    return json.dumps(
        {
            "pairs": {"url": f"{upstreams}/pairs/v1", "model": "pairs", "format": "pairwise"},
            "heads": {"url": f"{upstreams}/heads/v1", "format": "http"},
        }
    )


@pytest.mark.parametrize(("choice", "preferred"), [("the edit", True), ("the source", False), ("A", False)])
def test_a_judge_that_compares_says_whether_the_answer_is_better_than_the_source(
    start_orchestrator: Start, upstreams: str, script: Script, choice: str, *, preferred: bool
) -> None:
    """The thinker scores and refines in one call, as it does without a judge."""
    process = start_orchestrator(EDITTHINKER_JUDGES=judges(upstreams), EDITTHINKER_CONFIRMATIONS="8")
    source = picture()

    def winner(first: bytes, _: bytes) -> str:
        return "A" if choice == "A" or (first == source) == (choice == "the source") else "B"

    script.scores, script.winner = [(3, 9)], winner
    with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as api:
        session = create(api, wait=40, max_turns=1, judge="pairs").json()
        events = events_of(api, session)

    (comparison,) = session["comparisons"]
    assert (session["preferred"], comparison["by"], comparison["second"]) == (preferred, "pair", None)
    assert comparison["winner"] == {"the edit": "first", "the source": "second", "A": "tie"}[choice]
    assert (len(script.critiques), len(script.pairs)) == (1, 2)
    assert (session["judge"], events[0]["judge_scores"], events[0]["version"]) == ("pairs", False, 4)
    (compared,) = [event for event in events if event["type"] == "compared"]
    assert compared["prompt_tokens"] == 60
    assert session["turns"][0]["candidates"][0]["refined_instruction"] == "make it golden +"


def test_a_reward_model_scores_and_the_thinker_refines(start_orchestrator: Start, upstreams: str, script: Script) -> None:
    process = start_orchestrator(EDITTHINKER_JUDGES=judges(upstreams))
    script.scores = [(3, 9), (9, 9)]
    with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as api:
        session = create(api, wait=40, judge="heads").json()

    assert (session["finish_reason"], session["judge"]) == ("satisfied", "heads")
    assert [turn["instruction"] for turn in session["turns"]] == ["make it golden", "make it golden +"]
    assert [sent["turn_instruction"] for sent in script.heads] == ["make it golden", "make it golden +"]
    (asked,) = asked_of_the_thinker(script)
    assert asked.judgement == Judgement(3.0, 9.0, "")


@pytest.mark.parametrize("mode", ["warn", "refuse"])
def test_a_judge_that_cannot_judge_is_warned_of_or_refused(
    start_orchestrator: Start, upstreams: str, script: Script, mode: str
) -> None:
    """Ready before it was checked; the thinker's own scores are all alike too."""
    script.scores = [(5, 5)]
    process = start_orchestrator(EDITTHINKER_JUDGES=judges(upstreams), EDITTHINKER_JUDGE_CHECK=mode)
    with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as api:
        until(lambda: "check" in api.get("/v1/models/heads").json())
        check = api.get("/v1/models/heads").json()["check"]
        reply = create(api, wait=40, max_turns=1, judge="heads")
        metrics = api.get("/metrics").text

    assert check == {"passed": False, "margins": {"untouched": 0.0, "black": 0.0, "swapped": 0.0}, "preferences": None}
    assert 'editthinker_judge_check_passed{judge="heads"} 0.0' in metrics
    assert 'editthinker_judge_check_margin{case="black",judge="heads"} 0.0' in metrics
    assert "the judge heads cannot tell a good edit from: untouched, black, swapped" in process.log.read_text()
    if mode == "warn":
        assert reply.status_code == 200
    else:
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "judge_unfit")
        assert "black" in reply.json()["error"]["message"]
