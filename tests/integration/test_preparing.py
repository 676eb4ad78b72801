"""Sessions whose instruction is rewritten before the first edit: a real Redis, a real orchestrator, and a scripted rewriter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.doubles.upstreams import Script, serving
from tests.integration.conftest import Start
from tests.integration.test_choosing import events_of
from tests.integration.test_sessions import create

LONG = "golden evening light on the whole scene"


@dataclass
class Rewriter:
    """Answers as Qwen's rewriter does, or with a status; keeps what it was asked."""

    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        if self.status != 200:
            return JSONResponse({"error": {"message": "no"}}, self.status)
        content = f"gold\n</think>\n{json.dumps({'rewritten_prompt': LONG, 'wh_ratio': '', 'ratio_follow': '<image1>'})}"
        message = {"role": "assistant", "content": content}
        usage = {"prompt_tokens": 900, "completion_tokens": 80}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})


@pytest.fixture
def rewriter() -> Rewriter:
    return Rewriter()


@pytest.fixture
def prepared(start_orchestrator: Start, upstreams: str, rewriter: Rewriter, tmp_path: Path) -> Iterator[httpx.Client]:
    """A server whose editor's makers ask for a rewriter."""
    prompt = tmp_path / "system_prompt.txt"
    prompt.write_text("You rewrite.", encoding="utf-8")
    app = Starlette(routes=[Route("/v1/chat/completions", rewriter.answer, methods=["POST"])])
    with serving(app) as url:
        preparer = {"url": f"{url}/v1", "model": "pe", "format": "qwen-pe-i2i", "template": str(prompt), "attempts": 1}
        process = start_orchestrator(
            EDITTHINKER_EDITORS=json.dumps(
                {
                    "double": {"url": f"{upstreams}/editor/v1", "preparer": "pe"},
                    "plain": {"url": f"{upstreams}/editor/v1"},
                }
            ),
            EDITTHINKER_PREPARERS=json.dumps({"pe": preparer}),
        )
        with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as client:
            yield client


def test_the_first_edit_has_the_rewritten_words_and_critiques_measure_against_the_callers(
    prepared: httpx.Client, script: Script, rewriter: Rewriter
) -> None:
    script.scores = [(9, 9)]
    session = create(prepared, wait=20).json()

    assert [edit["prompt"] for edit in script.edits] == [LONG]
    assert (session["turns"][0]["author"], session["turns"][0]["instruction"]) == ("preparer", LONG)
    assert (session["instruction"], session["revised_prompt"]) == ("make it golden", LONG)
    assert session["preparation"]["preparer"] == "pe"
    assert (session["preparation"]["instruction"], session["preparation"]["error"]) == (LONG, None)
    assert session["totals"]["prompt_tokens"] == 900 + 100
    shown = json.dumps(script.critiques[0]["messages"])
    assert "make it golden" in shown and LONG in shown
    kinds = [event["type"] for event in events_of(prepared, session)]
    assert kinds[:4] == ["session_created", "prepare_started", "prepared", "turn_started"]
    exported = [json.loads(line) for line in prepared.get("/v1/export").text.splitlines()]
    assert [event["type"] for event in exported[0]["events"]] == kinds
    assert "preparation" not in prepared.get("/v1/sessions").json()["data"][0]
    assert len(rewriter.asked) == 1


def test_a_request_may_do_without(prepared: httpx.Client, script: Script, rewriter: Rewriter) -> None:
    """So that both can be compared."""
    script.scores = [(9, 9)]
    session = create(prepared, wait=20, prepare="false").json()

    assert [edit["prompt"] for edit in script.edits] == ["make it golden"]
    assert (session["turns"][0]["author"], rewriter.asked) == ("caller", [])
    assert "preparation" not in session
    refused = create(prepared, model="plain", prepare="true")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prepare")


def test_a_rewriter_that_fails_costs_nothing_but_time(prepared: httpx.Client, script: Script, rewriter: Rewriter) -> None:
    script.scores, rewriter.status = [(9, 9)], 500
    session = create(prepared, wait=20).json()

    assert session["status"] == "succeeded"
    assert [edit["prompt"] for edit in script.edits] == ["make it golden"]
    assert session["preparation"]["instruction"] is None
    assert session["preparation"]["error"]["code"] == "thinker_failed"
    told = [event for event in events_of(prepared, session) if event["type"] == "prepare_failed"]
    assert [event["attempt"] for event in told] == list(range(1, len(told) + 1))
    assert session["turns"][0]["author"] == "caller"


def test_words_that_the_editor_refuses_are_given_up_for_the_callers_own(prepared: httpx.Client, script: Script) -> None:
    script.scores = [(9, 9)]
    script.edit_fault = lambda number: JSONResponse({"error": {"message": "too long"}}, 400) if number == 1 else None
    session = create(prepared, wait=20, strategy="single").json()

    assert session["status"] == "succeeded"
    assert [edit["prompt"] for edit in script.edits] == [LONG, "make it golden"]
    assert [turn["author"] for turn in session["turns"]] == ["preparer", "caller"]


def test_the_list_of_models_tells_what_rewrites(prepared: httpx.Client) -> None:
    cards = {card["id"]: card for card in prepared.get("/v1/models").json()["data"]}

    assert (cards["double"]["preparer"], cards["double"]["prepare"]) == ("pe", True)
    assert not {"preparer", "prepare"} & cards["plain"].keys()
