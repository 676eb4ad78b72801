"""Whole sessions with the real vLLM as the thinker: Valkey, the orchestrator and a toy Kontext as processes."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.contract.thinker_contract import SOURCE
from tests.doubles.processes import Process
from tests.vllm import stack


@pytest.fixture(scope="module")
def http(vllm: Process, endings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An orchestrator with the tiny thinker in every format."""
    folder = tmp_path_factory.mktemp("stack")
    thinkers = {name: stack.thinker(vllm, endings[name], name) for name in endings}
    thinkers["sampled"] = stack.thinker(vllm, endings["editthinker"], samples=3)
    with stack.kontext(folder) as editors, stack.orchestrator(folder, editors, thinkers) as client:
        yield client


def ends_well(told: stack.Told) -> None:
    """Every turn has its candidates, every candidate its critique, and no critique was repeated."""
    session = told.session
    assert session["status"] == "succeeded", session["error"]
    # Random digits are ten of ten once in a thousand times.
    perfect = any(event["semantic"] == event["quality"] == 10 for event in told.of("critiqued"))
    # Random weights may write an instruction that was tried, or none: this editor would make the same picture again.
    tried = {turn["instruction"] for turn in session["turns"]}
    in_vain = any(not event["instruction"] or event["instruction"] in tried for event in told.of("critiqued"))
    ends = {"satisfied"} if perfect else {"max_turns", "plateau", "unchanged"} if in_vain else {"max_turns"}
    assert session["finish_reason"] in ends
    assert perfect or in_vain or session["totals"]["turns"] >= 2
    assert not told.of("critique_failed") and not told.of("checklist_failed") and not told.of("edit_failed")
    assert len(told.of("critiqued")) == len(told.of("edited")) >= session["totals"]["turns"]
    assert {candidate["status"] for turn in session["turns"] for candidate in turn["candidates"]} == {"critiqued"}
    for event in told.of("critiqued"):
        assert not event["repaired"] and event["thinker"] is None
        assert event["prompt_tokens"] > 0 and event["completion_tokens"] > 0 and event["thinker_seconds"] > 0
        assert event["turn"] == 1 or event["cached_tokens"] > 0
    counted = [*told.of("critiqued"), *told.of("checklist_made")]
    for tokens in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        assert session["totals"][tokens] == sum(event[tokens] for event in counted)


@pytest.mark.parametrize("thinker", ["editthinker", "json_schema"])
def test_a_session_thinks_with_vllm(http: httpx.Client, thinker: str) -> None:
    """Each turn uses the refined instruction of the critique before."""
    told = stack.edit(http, SOURCE, prompt="make it feel like golden hour", thinker=thinker)
    ends_well(told)
    assert not told.of("checklist_made")
    turns = told.of("turn_started")
    for before, critique, after in zip(turns, told.of("critiqued"), turns[1:], strict=False):
        # Random weights may write an empty refined instruction: then the one before it is kept.
        refined = critique["instruction"]
        changed = (refined, "thinker") if refined and refined != before["instruction"] else None
        assert (after["instruction"], after["author"]) == (changed or (before["instruction"], before["author"]))


def test_a_session_by_checklist(http: httpx.Client) -> None:
    """The questions are written once, and every critique answers each of them."""
    told = stack.edit(http, SOURCE, prompt="make it look like a faded print", thinker="checklist")
    ends_well(told)
    (made,) = told.of("checklist_made")
    assert made["prompt_tokens"] > 0
    assert told.session["checklist"] == made["questions"]
    for event in told.of("critiqued"):
        assert [answer["number"] for answer in event["answers"]] == list(range(1, len(made["questions"]) + 1))
        assert all(answer["reason"] for answer in event["answers"])


def test_candidates_of_a_turn_share_a_prefix(http: httpx.Client) -> None:
    """They are critiqued together, and only the first of the session finds no cached prefix."""
    told = stack.edit(http, SOURCE, prompt="warmer light", strategy="think_best_of_n", candidates=2, max_turns=2)
    ends_well(told)
    assert len(told.of("critiqued")) == 2 * told.session["totals"]["turns"]


def test_samples_come_with_their_spread(http: httpx.Client) -> None:
    """Three opinions from one request, and the tokens of all of them."""
    told = stack.edit(http, SOURCE, prompt="warmer light", thinker="sampled", max_turns=2)
    ends_well(told)
    assert {event["samples"] for event in told.of("critiqued")} == {3}
    assert any(event["semantic_spread"] > 0 or event["quality_spread"] > 0 for event in told.of("critiqued"))
