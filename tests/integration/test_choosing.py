"""Sessions whose judge is asked again: a real Redis, a real orchestrator, and thinkers that do not repeat themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create


@pytest.fixture
def asked_again(start_orchestrator: Start) -> Iterator[httpx.Client]:
    """A server with the default of further critiques."""
    process = start_orchestrator(EDITTHINKER_CONFIRMATIONS="8")
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as client:
        yield client


def events_of(api: httpx.Client, session: dict[str, Any]) -> list[dict[str, Any]]:
    lines = api.get(session["urls"]["events"]).text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_a_lucky_score_is_refuted_by_the_next_and_the_loop_goes_on(asked_again: httpx.Client, script: Script) -> None:
    """8.5 is not certain of a judge that was never asked twice; the strict answer's instruction makes the next turn."""
    script.scores = [(8.5, 9.0), (5.0, 9.0), (9.5, 9.5)]
    session = create(asked_again, wait=20, seed=5).json()

    assert (session["finish_reason"], session["best"]) == ("satisfied", {"turn": 2, "candidate": 1})
    (first,) = session["turns"][0]["candidates"]
    assert [each["semantic"] for each in first["critiques"]] == [8.5, 5.0]
    assert (first["scores"]["semantic"], first["scores"]["semantic_spread"]) == (6.75, 1.75)
    assert first["refined_instruction"] == "make it golden +"
    kinds = [event["type"] for event in events_of(asked_again, session)]
    assert kinds.index("verified") == kinds.index("critiqued") + 1
    assert [critique.get("temperature") for critique in script.critiques][:2] == [0, 0.7]


def test_an_answer_that_the_judge_does_not_prefer_to_the_source_is_told_as_such(
    asked_again: httpx.Client, script: Script
) -> None:
    """The untouched source scored higher than the edit."""
    script.scores = [(3.0, 3.0), (6.0, 6.0)]
    session = create(asked_again, wait=20, max_turns=1, seed=5).json()

    assert (session["finish_reason"], session["preferred"]) == ("max_turns", False)
    first = {"turn": 1, "candidate": 1}
    assert session["comparisons"] == [
        {"first": first, "second": None, "winner": "second", "by": "scores", "reasoning": "critique 2"}
    ]
    (compared,) = [event for event in events_of(asked_again, session) if event["type"] == "compared"]
    assert (compared["winner"], compared["prompt_tokens"]) == ("second", 100)
    assert session["totals"]["prompt_tokens"] == 200
    exported = [json.loads(line) for line in asked_again.get("/v1/export").text.splitlines()]
    assert [event["type"] for event in exported[0]["events"]][-2:] == ["compared", "finished"]


def test_a_judge_that_repeats_itself_is_soon_asked_once(asked_again: httpx.Client, script: Script) -> None:
    script.scores = [(8.0, 8.0)]
    asked = []
    for _ in range(3):
        before = len(script.critiques)
        assert create(asked_again, wait=20).json()["finish_reason"] == "satisfied"
        asked.append(len(script.critiques) - before)

    assert asked == [3, 1, 1]
