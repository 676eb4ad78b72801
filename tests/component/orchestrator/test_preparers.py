"""Preparers: the request that a model gets, what becomes of its reply, and of everything that goes wrong."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.responses import JSONResponse

from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.actions import PrepareJob
from orchestrator.loop.session import Session, fold
from orchestrator.ports.collaborators import EditorUsage, PrepareOrder, PrepareReply, Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.protocol.critique.formats import FORMATS
from services.protocol.rewriting import REWRITERS, RewriterName, default_prompt
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, stored
from tests.component.orchestrator.test_comparisons import Judge
from tests.component.orchestrator.test_editor_seconds import PICTURE, Store
from tests.component.orchestrator.test_thinker_client import completion
from tests.unit.imaging.pictures import saved, scene

SOURCE, REFERENCE = saved(scene(), "PNG"), saved(scene().rotate(180), "JPEG")
LONG = "golden evening light on the house"


async def prepare(desk: Desk, name: RewriterName, **order: Any) -> PrepareReply:
    spoken = REWRITERS[name]
    dialect = Dialect(
        "m",
        FORMATS["json_schema"],
        FORMATS["json_schema"].template(),
        "auto",
        spoken.sampling,
        max_pixels=spoken.max_pixels,
        rewriter=spoken,
        rewriting_prompt="be expert" if spoken.is_system else default_prompt(),
    )
    async with asking("thinker", desk.url) as upstream:
        return await HttpThinker(upstream, dialect).prepare(PrepareOrder(stored(SOURCE), "golden", WAIT_S, **order))


async def test_qwens_rewriter_is_asked_as_its_makers_do(desk: Desk) -> None:
    answer = f'gold\n</think>\n{{"rewritten_prompt": "{LONG}", "wh_ratio": "", "ratio_follow": "<image1>"}}'
    desk.answers = [JSONResponse(completion(answer, usage={"prompt_tokens": 900, "completion_tokens": 80}))]
    reply = await prepare(desk, "qwen-pe-i2i", references=(stored(REFERENCE),), prompt_tokens=77)

    assert reply == PrepareReply(LONG, Usage(900, 80, 0))
    sent = json.loads(desk.seen[0].body)
    assert {name: sent[name] for name in ("temperature", "top_p", "top_k", "presence_penalty", "max_tokens")} == {
        "temperature": 1.0,
        "top_p": 0.95,
        "top_k": 20,
        "presence_penalty": 0.0,
        "max_tokens": 24_000,
    }
    # It thinks before it answers, which a constraint would forbid.
    assert not {"structured_outputs", "response_format"} & sent.keys()
    kinds = [part["type"] for part in sent["messages"][1]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert sent["messages"][1]["content"][2]["text"] == "golden"


async def test_any_model_is_constrained_to_the_object(desk: Desk) -> None:
    desk.answers = [JSONResponse(completion(json.dumps({"instruction": LONG})))]
    reply = await prepare(desk, "template", prompt_tokens=77)

    assert reply.instruction == LONG
    sent = json.loads(desk.seen[0].body)
    assert "instruction" in sent["structured_outputs"]["regex"]
    assert "at most 77 tokens" in sent["messages"][0]["content"][-1]["text"]


@pytest.mark.parametrize(("name", "retryable"), [("qwen-pe-i2i", True), ("template", False)])
async def test_an_unreadable_reply_is_worth_another_attempt_only_where_that_may_differ(
    desk: Desk, name: RewriterName, *, retryable: bool
) -> None:
    desk.answers = [JSONResponse(completion("{}"))]
    with pytest.raises(ThinkerError) as caught:
        await prepare(desk, name)

    assert (caught.value.code, caught.value.retryable) == ("thinker_bad_reply", retryable)
    assert "no usable instruction" in caught.value.message
    assert len(desk.seen) == 1


@dataclass
class Writer:
    """Writes one instruction, or fails; keeps what it was asked."""

    instruction: str = LONG
    failure: ThinkerError | None = None
    orders: list[PrepareOrder] = field(default_factory=list)

    async def prepare(self, order: PrepareOrder) -> PrepareReply:
        self.orders.append(order)
        if self.failure:
            raise self.failure
        return PrepareReply(self.instruction, Usage(30, 9, 0))


def session(preparer: str = "p", *, age_s: float = 0.0) -> Session:
    now = time.time()
    limits = ev.Limits(deadline_at=now - age_s + 100)
    created = ev.SessionCreated(
        at=now - age_s,
        version=3,
        source=stored(PICTURE).ref,
        instruction="golden",
        editor="e",
        thinker="t",
        limits=limits,
        preparer=preparer,
    )
    return fold([created])


async def performed(writer: Writer, state: Session, *, tokens: int | None = None) -> ev.Event:
    class Now:
        def now(self) -> float:
            return time.time()

    performer = Performer({}, {"t": Judge()}, Store(), Now(), prompt_tokens=lambda _: tokens, preparers={"p": writer})
    return await performer.perform("s", state, PrepareJob(1), EditorUsage())


async def test_a_rewritten_instruction_is_an_event_with_its_cost() -> None:
    writer = Writer()
    event = await performed(writer, session(), tokens=77)

    assert isinstance(event, ev.Prepared)
    assert (event.instruction, event.prompt_tokens, event.completion_tokens) == (LONG, 30, 9)
    (order,) = writer.orders
    assert (order.instruction, order.prompt_tokens) == ("golden", 77)
    assert 0 < order.timeout_s <= 50


@pytest.mark.parametrize(
    ("writer", "tokens", "code", "says"),
    [
        (Writer(failure=ThinkerError("thinker_failed", "away", retryable=True)), None, "thinker_failed", "away"),
        (Writer("gold " * 78), 77, "thinker_bad_reply", "78 words, and the editor reads 77 tokens"),
        (Writer("x" * 9_000), None, "thinker_bad_reply", "9,000 bytes"),
    ],
)
async def test_what_goes_wrong_is_an_event(writer: Writer, tokens: int | None, code: str, says: str) -> None:
    event = await performed(writer, session(), tokens=tokens)

    assert isinstance(event, ev.PrepareFailed)
    assert (event.attempt, event.code, event.retryable) == (1, code, writer.failure is not None)
    assert says in event.message


async def test_a_session_that_waited_too_long_is_not_prepared() -> None:
    """The time that is left is for the edits."""
    writer = Writer()
    event = await performed(writer, session(age_s=60.0))

    assert isinstance(event, ev.PrepareFailed)
    assert (event.code, event.retryable, writer.orders) == ("thinker_timeout", False, [])


@pytest.mark.parametrize(("name", "code"), [("t", "thinker_misconfigured"), ("gone", "thinker_unreachable")])
async def test_a_preparer_that_this_replica_cannot_ask_is_an_event(name: str, code: str) -> None:
    event = await performed(Writer(), session(name))

    assert isinstance(event, ev.PrepareFailed)
    assert event.code == code
