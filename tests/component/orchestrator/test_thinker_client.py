"""The client of a chat-completions server: it sends the template, and accepts only usable critiques."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from orchestrator.ports.collaborators import CritiqueOrder, CritiqueReply, StoredImage, Usage
from orchestrator.ports.errors import ThinkerError
from orchestrator.upstreams import reply_contract
from orchestrator.upstreams.http import Call, HttpUpstream, Reply, RequestObserver, Upstream
from orchestrator.upstreams.liveness import Patience
from orchestrator.upstreams.reply_contract import EncodedSources
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import Critique, CritiqueRequest, Picture, build, read
from services.protocol.critique.prompts import Template
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, busy, holding, stored
from tests.unit.imaging.pictures import saved, scene
from tests.unit.protocol.replies import HOSTILE, TAGGED

SOURCE = saved(scene(), "PNG")
CANDIDATE = saved(scene().rotate(180), "JPEG")
CRITIQUE = Critique(3.0, 7.5, "too cold", "warmer light")
BOTH: list[FormatName] = ["editthinker", "json_schema"]


def dialect(name: FormatName = "editthinker", constraint: Constraint | Literal["auto"] = "none", **options: Any) -> Dialect:
    return Dialect("m", FORMATS[name], FORMATS[name].template(), constraint, **options)


def order(original: str = "make it golden", instruction: str = "warm light") -> CritiqueOrder:
    return CritiqueOrder(stored(SOURCE), stored(CANDIDATE), original, instruction, WAIT_S)


def completion(content: Any, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        **more,
    }


GOOD = completion(FORMATS["editthinker"].bind().render(CRITIQUE))


async def critique(desk: Desk, wanted: CritiqueOrder | None = None, spoken: Dialect | None = None) -> CritiqueReply:
    async with asking("thinker", desk.url, api_key="secret") as upstream:
        return await HttpThinker(upstream, spoken or dialect()).critique(wanted or order())


async def failure(desk: Desk, spoken: Dialect | None = None) -> ThinkerError:
    with pytest.raises(ThinkerError) as caught:
        await critique(desk, spoken=spoken)
    return caught.value


@pytest.mark.parametrize(("sampling", "second"), [({"temperature": 0}, 0.7), ({"temperature": 0.3}, 0.3), ({}, None)])
async def test_a_further_critique_is_sampled_where_it_would_repeat_itself(
    desk: Desk, sampling: dict[str, Any], second: float | None
) -> None:
    """Not by a thinker whose operator chose a temperature, or that takes none."""
    desk.answers = [JSONResponse(GOOD)]
    spoken = dialect(sampling=sampling)
    for number in (1, 2):
        await critique(desk, replace(order(), number=number), spoken)

    assert [json.loads(seen.body).get("temperature") for seen in desk.seen] == [sampling.get("temperature"), second]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("template", [None, Template("{original_instruction}\n{rewritten_prompt}")], ids=["ours", "raw"])
async def test_the_request_is_the_templates(desk: Desk, name: FormatName, template: Template | None) -> None:
    """The very messages `build` makes, pictures included, though they are put in as they are sent."""
    asked = template or FORMATS[name].template()
    desk.answers = [JSONResponse(completion(FORMATS[name].bind().render(CRITIQUE)))]
    await critique(desk, order('a "instruction" <image>\n\\ü', "日本"), Dialect("m", FORMATS[name], asked))
    (seen,) = desk.seen
    sent = json.loads(seen.body)
    request = CritiqueRequest(
        Picture(SOURCE, "image/png"), Picture(CANDIDATE, "image/jpeg"), 'a "instruction" <image>\n\\ü', "日本"
    )

    assert sent == {"model": "m", "messages": build(request, asked), "temperature": 0, "max_tokens": 2048}
    assert read(sent["messages"], [asked]) == request
    assert (seen.method, seen.path, seen.headers["content-type"]) == ("POST", "/v1/chat/completions", "application/json")
    assert seen.headers["authorization"] == "Bearer secret"
    assert int(seen.headers["content-length"]) == len(seen.body)


@pytest.mark.parametrize(
    ("name", "constraint", "field"),
    [
        ("editthinker", "none", None),
        ("editthinker", "regex", "structured_outputs"),
        ("editthinker", "json_schema", None),
        ("json_schema", "json_schema", "response_format"),
        ("json_schema", "none", None),
    ],
)
async def test_a_constraint_is_sent_where_it_applies(
    desk: Desk, name: FormatName, constraint: Constraint, field: str | None
) -> None:
    """And nothing a server might refuse where it does not."""
    desk.answers = [JSONResponse(completion(FORMATS[name].bind().render(CRITIQUE)))]
    await critique(desk, spoken=dialect(name, constraint))

    sent = set(json.loads(desk.seen[0].body)) - {"model", "messages", "temperature", "max_tokens"}
    assert sent == ({field} if field else set())


async def test_sampling_is_sent_as_configured(desk: Desk) -> None:
    """Further fields of any kind."""
    desk.answers = [JSONResponse(GOOD)]
    await critique(desk, spoken=dialect(sampling={"top_p": 0.5, "chat_template_kwargs": {"enable_thinking": False}}))

    sent = json.loads(desk.seen[0].body)
    assert (sent["top_p"], sent["chat_template_kwargs"]) == (0.5, {"enable_thinking": False})
    assert "temperature" not in sent


async def test_the_prefix_is_the_same_in_every_turn(desk: Desk) -> None:
    """Byte by byte up to the candidate, so the server's caches hit."""
    desk.answers = [JSONResponse(GOOD)]
    await critique(desk, order(instruction="warm light"))
    await critique(desk, order(instruction="warmer light, longer shadows"))
    first, second = (seen.body for seen in desk.seen)
    end = first.index(b"data:image/jpeg")

    assert first[:end] == second[:end] and b"data:image/png;base64," in first[:end]
    assert first != second


@pytest.mark.parametrize("name", BOTH)
async def test_a_critique_comes_back(desk: Desk, name: FormatName) -> None:
    """With what it cost, and its text as it came."""
    usage = {"prompt_tokens": 2000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 1500}}
    text = FORMATS[name].bind().render(CRITIQUE)
    desk.answers = [JSONResponse(completion(text, usage=usage))]
    found = await critique(desk, spoken=dialect(name))

    assert found == CritiqueReply(3.0, 7.5, "too cold", "warmer light", Usage(2000, 50, 1500), text=text, prompt=found.prompt)
    assert len(found.prompt or "") == 32


@pytest.mark.parametrize(
    "usage",
    [
        None,
        7,
        [],
        {},
        {"prompt_tokens": None, "completion_tokens": "many", "prompt_tokens_details": None},
        {"prompt_tokens": -5, "completion_tokens": True, "prompt_tokens_details": [1]},
        {"prompt_tokens": 1.5, "completion_tokens": [], "prompt_tokens_details": {"cached_tokens": {}}},
    ],
)
async def test_odd_usage_costs_nothing(desk: Desk, usage: Any) -> None:
    """A critique is not lost over its bill."""
    desk.answers = [JSONResponse(completion(FORMATS["editthinker"].bind().render(CRITIQUE), usage=usage))]
    reply = await critique(desk)

    assert reply.usage == Usage(0, 0, 0)
    assert reply.semantic == 3.0


@pytest.mark.parametrize("case", [case for case, (name, _, _) in HOSTILE.items() if name == TAGGED])
async def test_a_reply_that_is_no_critique_satisfies_nobody(desk: Desk, case: str) -> None:
    """Each hostile reply ends as an error that gives its reason, after one more try that shows the thinker what it wrote."""
    _, reply, reason = HOSTILE[case]
    body = completion(reply.content, reply.finish_reason)
    body["choices"][0]["message"]["reasoning_content"] = reply.reasoning
    desk.answers = [JSONResponse(body)]
    error = await failure(desk)

    assert error.code == ("thinker_refused" if reason == "refusal" else "thinker_bad_reply")
    assert f"no usable critique: {reason}" in error.message
    assert error.retryable == (reason not in {"instruction_too_long", "refusal"})
    assert len(error.message) < 500
    assert len(desk.seen) == 2


@pytest.mark.parametrize(
    "body",
    [
        *(None, 7, "x", [], {}, {"choices": []}, {"choices": None}, {"choices": [None]}, {"choices": [{}]}),
        *({"choices": [{"message": "x"}]}, {"choices": {"0": {}}}, {"choices": [{"text": "a completion"}]}),
        *({"error": {"message": "no"}}, {"detail": "Not Found"}),
    ],
    ids=json.dumps,
)
async def test_what_is_no_completion_is_refused(desk: Desk, body: Any) -> None:
    """Any JSON but a chat completion."""
    desk.answers = [Response(json.dumps(body), media_type="application/json")]
    error = await failure(desk)

    assert (error.code, error.retryable) == ("thinker_bad_reply", True)
    assert "wrong_shape" in error.message


async def test_an_overflow_is_told_as_one(desk: Desk) -> None:
    """A server that says the question is too long is not asked again."""
    desk.answers = [JSONResponse({"error": {"message": "maximum context length", "code": "context_overflow"}}, 400)]
    error = await failure(desk)

    assert (error.code, error.retryable) == ("context_overflow", False)
    assert len(desk.seen) == 1


async def test_a_fault_that_passes_is_not_noticed(desk: Desk, at_once: None) -> None:
    """The pictures are sent again, whole."""
    desk.answers = [busy("0", 503), JSONResponse(GOOD)]

    assert (await critique(desk)).semantic == 3.0
    assert desk.seen[0].body == desk.seen[1].body


async def test_cancelling_frees_the_thinker(desk: Desk) -> None:
    """The server sees the caller leave."""
    desk.answers = [holding]
    task = asyncio.create_task(critique(desk))
    assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(desk.left.wait, WAIT_S)


async def test_ready_asks_the_server(desk: Desk) -> None:
    """The thinker is as ready as its list of models."""
    desk.answers = [JSONResponse({"data": []}), Response(status_code=500)]
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, dialect())
        assert [await thinker.ready(), await thinker.ready()] == [True, False]


CLIENT: Any = None


class _Answering(HttpUpstream):
    """An upstream without a wire, for answers by the hundred."""

    def __init__(self, answer: Any) -> None:
        super().__init__("thinker", Upstream("http://nowhere.invalid/v1"), CLIENT)
        self.answer = answer
        self.sent = b""

    async def post(self, call: Call, patience: Patience, observer: RequestObserver | None = None) -> Reply:
        self.sent = b"".join([piece async for piece in call.pieces()])
        assert call.size == len(self.sent)
        return Reply(self.answer)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
keys = st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens_details", "text", "finish_reason"])
bodies = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10)
contents = st.sampled_from([FORMATS["editthinker"].bind().render(CRITIQUE)]) | st.text(max_size=20) | bodies
near = st.builds(lambda content, usage: completion(content, usage=usage), contents, bodies)


@given(body=bodies | near)
@settings(max_examples=200, deadline=None)
def test_any_reply_is_a_critique_or_an_error(body: Any) -> None:
    """No JSON value raises anything but the thinker's error; only the true critique is one."""
    try:
        scores: tuple[float, float] | None = None
        reply = asyncio.run(HttpThinker(_Answering(body), dialect()).critique(order()))
        scores = reply.semantic, reply.quality
    except ThinkerError as exc:
        code = exc.code
    assert scores == (3.0, 7.5) if scores else code in {"thinker_bad_reply", "thinker_refused"}


@given(original=st.text(max_size=40), instruction=st.text(max_size=40), name=st.sampled_from(BOTH))
@settings(max_examples=100, deadline=None)
def test_any_texts_are_asked_about(original: str, instruction: str, name: FormatName) -> None:
    """The body put together from pieces is the JSON of the same request put together at once."""
    upstream = _Answering(completion(FORMATS[name].bind().render(CRITIQUE)))
    asyncio.run(HttpThinker(upstream, dialect(name)).critique(order(original, instruction)))
    request = CritiqueRequest(Picture(SOURCE, "image/png"), Picture(CANDIDATE, "image/jpeg"), original, instruction)

    assert json.loads(upstream.sent)["messages"] == build(request, FORMATS[name].template())


async def test_a_sessions_source_is_encoded_once(desk: Desk) -> None:
    """And sent as before with each critique; candidates are loaded when they are sent."""
    loads: list[str] = []
    desk.answers = [JSONResponse(GOOD)]

    def counted(image: StoredImage, name: str) -> StoredImage:
        async def load() -> bytes:
            loads.append(name)
            return await image.load()

        return StoredImage(image.ref, load)

    pair = counted(stored(SOURCE), "source"), counted(stored(CANDIDATE), "candidate")
    async with asking("thinker", desk.url) as upstream:
        thinker = HttpThinker(upstream, dialect())
        for _ in range(2):
            await thinker.critique(CritiqueOrder(*pair, "make it golden", "warm light", WAIT_S))

    assert loads == ["source", "candidate", "candidate"]
    assert desk.seen[0].body == desk.seen[1].body


async def test_sources_beyond_the_limit_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_contract, "_SOURCES_BYTES", 10)
    assert await EncodedSources().encoded(stored(SOURCE)) == base64.b64encode(SOURCE)
