"""Judges over the real vLLM: sessions whose judge compares or only gives scores, the check of judges, and a digit's logprobs."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.imaging.codec import data_url
from services.protocol.critique.digit import DIGIT
from services.protocol.critique.messages import Unparseable, messages
from services.protocol.critique.replies import Reply, read_completion
from services.protocol.critique.score_formats import SCORE_FORMATS
from services.protocol.critique.scores import Rating
from tests.contract.thinker_contract import SOURCE
from tests.doubles.processes import Process
from tests.vllm import stack
from tests.vllm.test_server import TINY, ask, picture

JUDGES = ("pairwise", "editscore", "digit")
CASES = {"untouched", "black", "swapped"}
CHECKED_S = 240.0


@contextlib.contextmanager
def stacked(vllm: Process, ending: str, folder: Path, mode: str) -> Iterator[httpx.Client]:
    """An orchestrator with the tiny thinker, and the same model as a judge of each format."""
    judges = {name: stack.thinker(vllm, ending, name) for name in JUDGES}
    # Random weights seldom answer with a digit by themselves.
    judges["digit"] |= {"constraint": "regex"}
    thinkers = {"tiny": stack.thinker(vllm, ending, "json_schema")}
    more = {
        "EDITTHINKER_JUDGES": json.dumps(judges),
        "EDITTHINKER_JUDGE_CHECK": mode,
        "EDITTHINKER_CONFIRMATIONS": "1",  # with 0 nothing is compared
    }
    with stack.kontext(folder) as editors, stack.orchestrator(folder, editors, thinkers, **more) as client:
        yield client


@pytest.fixture(scope="module")
def http(vllm: Process, endings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Judges are checked, and used also where they fail."""
    with stacked(vllm, endings["json_schema"], tmp_path_factory.mktemp("judges"), "warn") as client:
        yield client


def checked(http: httpx.Client, judge: str) -> dict[str, Any]:
    """The figures of a judge's check, as the list of models tells them, once it has answered."""
    ends = time.monotonic() + CHECKED_S
    while time.monotonic() < ends:
        models = http.get("/v1/models").json()["judges"]
        (card,) = [model for model in models if model["id"] == judge]
        if "check" in card:
            found: dict[str, Any] = card["check"]
            return found
        time.sleep(0.2)
    raise AssertionError(f"{judge} was not checked")


@pytest.mark.parametrize("judge", ["editscore", "digit"])
def test_a_judge_scores_and_the_thinker_refines(http: httpx.Client, judge: str) -> None:
    """Two models of a session, here one server; each is asked what it can answer, and nothing is repaired."""
    told = stack.edit(http, SOURCE, prompt="make it feel like golden hour", judge=judge, max_turns=2)
    session = told.session
    assert session["status"] == "succeeded", session["error"]
    assert (session["judge"], session["thinker"], session["finish_reason"]) == (judge, "tiny", "max_turns")
    assert not told.of("critique_failed") and not told.of("refine_failed")
    critiqued = told.of("critiqued")
    assert len(critiqued) == len(told.of("edited")) == 2 and len(told.of("refined")) == 1
    for event in critiqued:
        assert not event["repaired"] and event["instruction"] is None
        assert 0 <= event["semantic"] <= 10 and 0 <= event["quality"] <= 10
        assert event["prompt_tokens"] > 0
        # One token for each of the two digits.
        assert event["completion_tokens"] == 2 if judge == "digit" else event["completion_tokens"] > 2
        assert event["reasoning"].startswith("Instruction: ") and "\nPicture: " in event["reasoning"]


def test_a_judge_compares_and_the_thinker_scores(http: httpx.Client) -> None:
    """The answer with the source, in both orders."""
    told = stack.edit(http, SOURCE, prompt="make it feel like golden hour", judge="pairwise", max_turns=1)
    session = told.session
    assert session["status"] == "succeeded", session["error"]
    assert (session["judge"], session["thinker"]) == ("pairwise", "tiny")
    assert not told.of("critique_failed") and not told.of("compare_failed")
    (compared,) = told.of("compared")
    assert compared["winner"] in {"first", "second", "tie"}
    assert compared["prompt_tokens"] > 0 and compared["completion_tokens"] > 0
    (shown,) = session["comparisons"]
    assert (shown["winner"], shown["second"]) == (compared["winner"], None)
    assert session["preferred"] == (compared["winner"] == "first")


@pytest.mark.parametrize("judge", ["digit", "pairwise"])
def test_random_weights_fail_the_check(http: httpx.Client, judge: str) -> None:
    """The figures say by how much, and a session may name the judge all the same."""
    check = checked(http, judge)
    figures = check["margins" if judge == "digit" else "preferences"]
    assert check["passed"] is False
    assert set(figures) == CASES
    assert check["preferences" if judge == "digit" else "margins"] is None
    if judge == "digit":
        assert all(abs(margin) < 1 for margin in figures.values())
    else:
        assert set(figures.values()) <= {-1, 0, 1} and set(figures.values()) != {1}


def test_a_judge_that_failed_the_check_is_refused(vllm: Process, endings: dict[str, str], tmp_path: Path) -> None:
    """With what it could not tell apart."""
    with stacked(vllm, endings["json_schema"], tmp_path, "refuse") as http:
        assert checked(http, "digit")["passed"] is False
        reply = http.post("/v1/sessions", data={"prompt": "golden", "judge": "digit"}, files={"image": SOURCE})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (503, "judge_unfit", "judge")
    assert "'digit' cannot tell a good edit from: " in error["message"] and "choose another judge" in error["message"]


def asked_for_a_digit(client: httpx.Client, *, constrained: bool) -> tuple[dict[str, Any], Reply]:
    """The completion, and how it is read."""
    form = SCORE_FORMATS["digit"]
    urls = [data_url(each.data, each.media_type) for each in (picture("grey", 64), picture("orange", 64))]
    sent = {
        "model": TINY.served_name,
        "messages": messages("golden hour", "warm light", form.template(), urls=urls),
        "temperature": 0,
        **(DIGIT.constraint("regex") if constrained else {}),
        **form.request,
    }
    answer = ask(client, sent)
    reply = read_completion(answer)
    assert isinstance(reply, Reply)
    return answer, reply


def test_the_probabilities_of_a_digit_are_those_under_the_constraint(client: httpx.Client) -> None:
    """vLLM masks the tokens before it reports logprobs, so the digits share all of the probability."""
    answer, reply = asked_for_a_digit(client, constrained=True)
    (first,) = answer["choices"][0]["logprobs"]["content"]
    shares = {row["token"]: math.exp(row["logprob"]) for row in first["top_logprobs"] if row["token"] in set("012345")}
    rating = DIGIT.parse(reply)

    assert len(first["top_logprobs"]) == 20 and len(shares) == 6
    assert math.fsum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert reply.content == max(shares, key=lambda token: shares[token])
    assert isinstance(rating, Rating)
    assert rating.score == pytest.approx(2 * sum(int(token) * share for token, share in shares.items()), abs=2e-3)


def test_without_the_constraint_random_weights_give_no_digit(client: httpx.Client) -> None:
    """So that what a model would rather say is noticed."""
    _, reply = asked_for_a_digit(client, constrained=False)
    found = DIGIT.parse(reply)

    assert isinstance(found, Unparseable) and found.reason == "missing_scores"
