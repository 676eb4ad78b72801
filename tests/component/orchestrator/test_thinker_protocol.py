"""A thinker found out by asking: constraints, repairs, samples, checklists, smaller pictures, fallbacks."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from orchestrator.loop.events import ChecklistQuestion
from orchestrator.ports.collaborators import ChecklistOrder, CritiqueOrder, Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams.constraint_probe import RETRY_S, ConstraintProbe
from orchestrator.upstreams.fallback import ThinkerWithFallback
from orchestrator.upstreams.registry import ThinkerSettings
from orchestrator.upstreams.thinker import HttpThinker
from services.protocol.critique.formats import FORMATS, QUESTIONS
from services.protocol.critique.messages import Critique
from services.protocol.critique.questions import Question
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, busy, stored
from tests.component.orchestrator.test_thinker_client import (
    CANDIDATE,
    CRITIQUE,
    GOOD,
    SOURCE,
    completion,
    critique,
    dialect,
    failure,
    order,
)
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved, scene

PLAIN = "Well: semantic 3, quality 7.5, I would say."
WORN = "<think>too cold</think><score>semantic: 3, quality: 7.5</score><answer>warmer light</answer>"
"""Readable, but not what a constraint allows."""
OBJECT = FORMATS["json_schema"].bind().render(CRITIQUE)
GOOD_OBJECT = completion(OBJECT)


def sent(desk: Desk, place: int) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(desk.seen[place].body)
    return body


def constraints(desk: Desk) -> list[str]:
    """What each request asked the server to enforce."""
    known = ("structured_outputs", "response_format")
    return [next((name for name in known if name in sent(desk, place)), "none") for place in range(len(desk.seen))]


async def heard(desk: Desk, spoken: Any, times: int = 1) -> list[str]:
    """What one thinker, asked so many times, makes of its server's replies."""
    outcomes: list[str] = []
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, spoken, outcomes.append)
        for _ in range(times):
            await thinker.critique(order())
    return outcomes


async def test_a_constraint_that_is_enforced_is_kept(desk: Desk) -> None:
    """The first that the format has."""
    desk.answers = [JSONResponse(GOOD)]
    assert await heard(desk, dialect(constraint="auto"), 3) == ["ok", "ok", "ok"]
    assert [list(sent(desk, place)["structured_outputs"]) for place in range(3)] == [["regex"]] * 3


async def test_a_constraint_that_is_refused_is_given_up_for_the_next(desk: Desk) -> None:
    """Within the same critique; what was learnt holds for the next."""
    refusal = JSONResponse({"error": {"message": "structured_outputs: unknown field"}}, 400)
    desk.answers = [refusal, JSONResponse(GOOD_OBJECT)]
    assert await heard(desk, dialect("json_schema", "auto"), 2) == ["ok", "ok"]
    assert constraints(desk) == ["structured_outputs", "response_format", "response_format"]


async def test_when_every_constraint_is_refused_none_is_sent(desk: Desk) -> None:
    """Within the same critique; what was learnt holds for the next."""
    refusal = JSONResponse({"error": {"message": "structured_outputs: unknown field"}}, 400)
    desk.answers = [refusal, refusal, JSONResponse(GOOD_OBJECT)]
    assert await heard(desk, dialect("json_schema", "auto"), 2) == ["ok", "ok"]
    assert constraints(desk) == ["structured_outputs", "response_format", "none", "none"]


async def test_a_format_without_a_schema_is_not_sent_one(desk: Desk) -> None:
    """The tagged format has a regular expression only."""
    desk.answers = [JSONResponse({"error": {"message": "structured_outputs: unknown field"}}, 400), JSONResponse(GOOD)]
    assert await heard(desk, dialect(constraint="auto"), 2) == ["ok", "ok"]
    assert constraints(desk) == ["structured_outputs", "none", "none"]


async def test_a_constraint_that_is_ignored_is_found_out_by_the_first_reply(desk: Desk) -> None:
    """HTTP 200 and a reply it does not allow; the reply is used all the same if it can be read."""
    desk.answers = [JSONResponse(completion(f"Here it is: {OBJECT}")), JSONResponse(GOOD_OBJECT)]
    outcomes = await heard(desk, dialect("json_schema", "auto"), 2)
    assert outcomes == ["unconstrained", "ok", "ok"]
    assert constraints(desk) == ["structured_outputs", "response_format"]


async def test_a_configured_constraint_that_is_not_enforced_is_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Once, in the log, and every time in the metrics; it goes on being asked for."""
    desk.answers = [JSONResponse(completion(WORN))]
    assert await heard(desk, dialect(constraint="regex"), 2) == ["unconstrained", "ok"] * 2
    assert constraints(desk) == ["structured_outputs"] * 2
    assert caplog.text.count("does not enforce the constraint regex") == 1


async def test_a_server_that_refuses_without_a_constraint_too_is_an_error(desk: Desk) -> None:
    """Its last word is told."""
    desk.answers = [JSONResponse({"error": {"message": "no images here"}}, 400)]
    error = await failure(desk, spoken=dialect(constraint="auto"))
    assert error.code == "thinker_failed" and "no images here" in error.message
    assert constraints(desk)[-1] == "none"


async def test_an_unreadable_reply_is_shown_to_its_thinker_once(desk: Desk) -> None:
    """With what is wrong; the second reply counts, and both are paid for."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    desk.answers = [
        JSONResponse(completion(PLAIN, usage=usage)),
        JSONResponse(completion(FORMATS["editthinker"].bind().render(CRITIQUE), usage=usage)),
    ]
    reply = await critique(desk)
    first, second = sent(desk, 0)["messages"], sent(desk, 1)["messages"]

    assert (reply.semantic, reply.repaired, reply.usage) == (3.0, True, Usage(200, 20, 0))
    assert second[: len(first)] == first
    assert second[len(first)] == {"role": "assistant", "content": PLAIN}
    assert "scores" in second[-1]["content"]
    assert len(desk.seen) == 2


async def test_the_mean_of_samples_counts_and_their_spread_is_told(desk: Desk) -> None:
    """One request for all of them; the unreadable ones are left out; the words are those nearest the mean."""
    tagged = FORMATS["editthinker"].bind().render
    replies = [tagged(Critique(score, 8, f"about {score}", f"go {score}")) for score in (2.0, 6.0, 7.0)] + ["nonsense"]
    choices = [completion(text)["choices"][0] for text in replies]
    desk.answers = [JSONResponse({"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 40}})]
    reply = await critique(desk, spoken=dialect(samples=4, sampling={"temperature": 0.7}))

    assert sent(desk, 0)["n"] == 4
    assert (reply.semantic, reply.quality, reply.samples) == (5.0, 8.0, 3)
    assert reply.semantic_spread == pytest.approx(2.16, abs=0.01) and reply.quality_spread == 0
    assert (reply.reasoning, reply.refined_instruction) == ("about 6.0", "go 6.0")


async def test_a_checklist_is_asked_for_and_answered(desk: Desk) -> None:
    """The questions go along with the critique; the scores follow from the answers, which are told."""
    asked = (
        Question("change", "Is the light warm?"),
        Question("keep", "Is the cup unchanged?"),
        Question("change", "Is there haze?"),
    )
    desk.answers = [JSONResponse(completion(QUESTIONS.render(asked)))]
    spoken = dialect("checklist", "auto")
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, spoken, decoder=InProcessPool())
        made = await thinker.checklist(ChecklistOrder(stored(SOURCE), "make it golden", WAIT_S))
        words = ["no", *["yes"] * (len(made.questions) - 1)]
        rows = [{"n": place, "reason": "seen", "answer": word} for place, word in enumerate(words, 1)]
        body = json.dumps({"answers": rows, "instruction": "warmer"})
        desk.answers = [JSONResponse(completion(body))]
        desk.seen.clear()
        wanted = CritiqueOrder(stored(SOURCE), stored(CANDIDATE), "make it golden", "golden", WAIT_S, made.questions)
        reply = await thinker.critique(wanted)

    assert {each.text for each in made.questions} >= {each.text for each in asked}
    text = "".join(part["text"] for part in sent(desk, 0)["messages"][0]["content"] if part["type"] == "text")
    assert "Is the light warm?" in text
    # One of the two changes was not made; that the cup was kept does not make up for it.
    assert (reply.semantic, reply.quality) == (5.0, 10.0)
    assert [answer.answer for answer in reply.answers][:2] == ["no", "yes"]


async def test_a_checklist_that_cannot_be_had_is_an_error(desk: Desk) -> None:
    """After one repair."""
    desk.answers = [JSONResponse(completion("no questions today"))]
    async with asking("thinker", desk.url) as upstream:
        with pytest.raises(ThinkerError) as caught:
            await HttpThinker(upstream, dialect("checklist")).checklist(ChecklistOrder(stored(SOURCE), "x", WAIT_S))
    assert (caught.value.code, len(desk.seen)) == ("thinker_bad_reply", 2)


async def test_large_pictures_are_scaled_down_once_and_alike(desk: Desk) -> None:
    """The source is the same bytes in every turn; small pictures are sent as they are."""
    large = saved(scene().resize((400, 300)), "PNG")
    desk.answers = [JSONResponse(GOOD)]
    spoken = dialect(max_pixels=10_000)
    small = saved(scene().resize((50, 40)), "JPEG")
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, spoken, decoder=InProcessPool())
        for _ in range(2):
            await thinker.critique(CritiqueOrder(stored(large), stored(small), "x", "y", WAIT_S))
    urls = [
        [part["image_url"]["url"] for part in sent(desk, turn)["messages"][0]["content"] if part["type"] == "image_url"]
        for turn in (0, 1)
    ]
    source = Image.open(io.BytesIO(base64.b64decode(urls[0][0].partition(",")[2])))
    assert urls[0] == urls[1]
    assert source.width * source.height <= 10_000 and abs(source.width / source.height - 4 / 3) < 0.03
    assert base64.b64decode(urls[0][1].partition(",")[2]) == small


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (JSONResponse({"error": {"message": "The model `x` does not exist.", "code": 404}}, 404), "thinker_misconfigured", False),
        (JSONResponse({"error": {"message": "bad key"}}, 401), "thinker_misconfigured", False),
        (
            JSONResponse({"error": {"message": "This model's maximum context length is 4096 tokens."}}, 400),
            "context_overflow",
            False,
        ),
        (JSONResponse({"error": {"message": "x", "code": "context_length_exceeded"}}, 400), "context_overflow", False),
        (JSONResponse(completion("I'm sorry, I can't help with that.")), "thinker_refused", False),
        (JSONResponse(completion("")), "thinker_bad_reply", True),
        (Response("<html>", media_type="text/html"), "thinker_bad_reply", True),
        (JSONResponse({"error": {"message": "boom"}}, 500), "thinker_failed", True),
    ],
)
async def test_each_failure_has_its_name(desk: Desk, at_once: None, answer: Response, code: str, retryable: bool) -> None:  # noqa: FBT001
    """And says whether another try can help."""
    desk.answers = [answer]
    error = await failure(desk)
    assert (error.code, error.retryable) == (code, retryable)


async def test_a_thinker_that_starts_again_is_waited_for(desk: Desk, at_once: None) -> None:
    """Longer than faults are tried again."""
    desk.answers = [*[busy("0", 503)] * 12, JSONResponse(GOOD)]
    async with asking("thinker", desk.url, attempts=2, away_s=30) as upstream:
        assert (await HttpThinker(upstream, dialect()).critique(order())).semantic == 3.0
    desk.reset()
    desk.answers = [*[busy("0", 503)] * 12, JSONResponse(GOOD)]
    async with asking("thinker", desk.url, attempts=2) as upstream:
        with pytest.raises(ThinkerError):
            await HttpThinker(upstream, dialect()).critique(order())


async def test_a_fallback_is_asked_when_the_first_fails(desk: Desk, at_once: None) -> None:
    """And named in its critique; when both fail, its error is the session's."""
    desk.answers = [JSONResponse({"error": {"message": "no such model"}}, 404), JSONResponse(GOOD)]
    async with asking("thinker", desk.url) as upstream:
        both = ThinkerWithFallback(HttpThinker(upstream, dialect()), HttpThinker(upstream, dialect()), "expert")
        reply = await both.critique(order())
        desk.reset()
        desk.answers = [JSONResponse(GOOD)]
        plain = await both.critique(order())
        desk.reset()
        desk.answers = [JSONResponse({"error": {"message": "no"}}, 401)]
        with pytest.raises(ThinkerError) as caught:
            await both.checklist(ChecklistOrder(stored(SOURCE), "x", WAIT_S))
    assert (reply.semantic, reply.thinker) == (3.0, "expert")
    assert plain.thinker is None
    assert caught.value.code == "thinker_misconfigured" and len(desk.seen) == 2


def test_questions_are_events_of_their_own() -> None:
    """Their kinds are the wire's."""
    assert ChecklistQuestion(kind="keep", text="x").kind == Question("keep", "x").kind


async def test_a_constraint_that_was_seen_to_be_enforced_is_not_given_up_for_one_reply(desk: Desk) -> None:
    """Servers count characters differently; the reply is told, and the constraint stays."""
    desk.answers = [JSONResponse(GOOD), JSONResponse(completion(WORN)), JSONResponse(GOOD)]
    assert await heard(desk, dialect(constraint="auto"), 3) == ["ok", "unconstrained", "ok", "ok"]
    assert constraints(desk) == ["structured_outputs"] * 3


OVERFLOW = JSONResponse({"error": {"message": "This model's maximum context length is 4096 tokens."}}, 400)
REFUSED = JSONResponse({"error": {"message": "not this picture", "code": "content_refused"}}, 400)
NO_MODEL = JSONResponse({"error": {"message": "no such model"}}, 404)


async def enforced(desk: Desk, *answers: Response) -> list[str]:
    """What each request asks to be enforced, one critique for each answer; those that are errors fail it."""
    desk.answers = [*answers]
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, dialect(constraint="auto"))
        for answer in answers:
            if answer.status_code == 200:
                await thinker.critique(order())
                continue
            with pytest.raises(ThinkerError):
                await thinker.critique(order())
    return [next(iter(sent(desk, place).get("structured_outputs", {"none": 0}))) for place in range(len(desk.seen))]


@pytest.mark.parametrize("answer", [OVERFLOW, REFUSED, NO_MODEL], ids=["too long", "refused", "no model"])
async def test_what_is_no_fault_of_the_constraint_gives_none_up(desk: Desk, answer: Response) -> None:
    """One prompt that is too long is asked once, and the next is held to the constraint as before."""
    assert await enforced(desk, answer, JSONResponse(GOOD)) == ["regex", "regex"]


async def test_a_constraint_that_was_seen_to_be_enforced_is_not_given_up_for_a_refusal(desk: Desk) -> None:
    """The server took such a request before, so the refusal has another cause."""
    refusal = JSONResponse({"error": {"message": "cannot read the picture"}}, 400)
    assert await enforced(desk, JSONResponse(GOOD), refusal, JSONResponse(GOOD)) == ["regex"] * 3


FILTERED = JSONResponse({"error": {"message": "not this picture", "code": "content_filter"}}, 400)
SHAPE = JSONResponse({"error": {"message": "images of 5000x24 are not supported"}}, 400)


@pytest.mark.parametrize("answer", [FILTERED, SHAPE], ids=["a content filter", "an unusual shape"])
async def test_a_request_that_is_refused_without_its_constraint_too_gives_none_up(desk: Desk, answer: Response) -> None:
    """One stranger's first request after a start does not disarm everybody's."""
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, dialect(constraint="auto"))
        desk.answers = [answer]
        with pytest.raises(ThinkerError):
            await thinker.critique(order())
        desk.reset()
        desk.answers = [JSONResponse(GOOD)]
        for _ in range(2):
            await thinker.critique(order())
    assert constraints(desk) == ["structured_outputs"] * 2


@pytest.mark.parametrize("reason", ["content_filter", "length"])
async def test_a_reply_that_a_filter_ended_proves_no_constraint(desk: Desk, reason: str) -> None:
    """It is not whole, and the next one is."""
    desk.answers = [JSONResponse(completion("<think>and so", reason)), JSONResponse(GOOD)]
    assert (await heard(desk, dialect(constraint="auto"), 2))[-1] == "ok"
    assert constraints(desk) == ["structured_outputs"] * 3


async def test_a_constraint_that_was_given_up_comes_back(desk: Desk) -> None:
    """After ten minutes it is tried again: the server may have been replaced, or the refusal was a coincidence."""
    now = [0.0]
    probe = ConstraintProbe("auto", FORMATS["json_schema"].bind(), lambda: now[0])
    unknown = ThinkerError("thinker_failed", "unknown field", status=400)
    assert list(probe.kinds()) == ["regex", "json_schema", "none"]
    assert probe.may_be_refused("regex", unknown)
    probe.refused({"regex": unknown})
    now[0] = RETRY_S - 1
    assert list(probe.kinds()) == ["json_schema", "none"]
    now[0] = RETRY_S
    assert list(probe.kinds()) == ["regex", "json_schema", "none"]

    probe.observed("regex", enforced=False)
    assert list(probe.kinds()) == ["json_schema", "none"]
    now[0] = 2 * RETRY_S
    assert probe.observed("regex", enforced=True)
    # Now it is known to be understood.
    assert not probe.may_be_refused("regex", unknown)


async def test_more_choices_than_were_requested_are_not_read(desk: Desk) -> None:
    """A thinker decides neither how much is parsed nor how many votes it has."""
    one = GOOD["choices"][0]
    desk.answers = [JSONResponse({**GOOD, "choices": [one] * 50})]
    assert await heard(desk, dialect()) == ["ok"]
    assert await heard(desk, dialect(samples=3, sampling={"temperature": 1})) == ["ok"] * 3


async def test_a_reply_that_was_cut_proves_no_constraint(desk: Desk) -> None:
    """The next one, which is whole, shows that it is not enforced."""
    cut = JSONResponse(completion("<think>and so on", "length"))
    desk.answers = [cut, JSONResponse(completion(WORN)), JSONResponse(GOOD)]
    outcomes = await heard(desk, dialect(constraint="auto"), 2)
    assert outcomes[1:] == ["unconstrained", "ok", "ok"]
    assert constraints(desk) == ["structured_outputs", "structured_outputs", "none"]


@pytest.mark.parametrize("constraint", ["grammar", "structural_tag"])
def test_a_removed_constraint_is_refused_at_start_with_the_ones_to_use(constraint: str) -> None:
    """docs/decisions/0020; the other two, and finding out, are accepted."""
    entry = {"url": "http://thinker/v1", "model": "m", "format": "json_schema"}
    with pytest.raises(ValidationError, match=f"the constraint {constraint} was removed; use auto, regex or json_schema"):
        ThinkerSettings.model_validate({**entry, "constraint": constraint})
    for accepted in ("auto", "regex", "json_schema", "none"):
        assert ThinkerSettings.model_validate({**entry, "constraint": accepted}).constraint == accepted
