"""What the orchestrator needs of a thinker, whichever it is: the embedded one and vLLM are put to the same questions.

A suite derives its test class from `ThinkerContract` and has a fixture `server`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from orchestrator.loop.events import ChecklistQuestion, OutsideMask
from orchestrator.ports.collaborators import ChecklistOrder, CritiqueOrder
from orchestrator.upstreams.thinker import Dialect, HttpThinker
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, QUESTIONS, FormatName
from services.protocol.critique.messages import Critique, CritiqueRequest, Picture, QuestionsRequest, build, build_questions
from services.protocol.critique.questions import MIN_QUESTIONS, Question, with_quality
from services.protocol.critique.replies import Reply, read_completions
from tests.component.orchestrator.desk import asking, stored
from tests.doubles.decoding import InProcessPool

KINDS: tuple[Constraint, ...] = ("regex", "json_schema")
CASES = [(name, kind) for name, form in FORMATS.items() for kind in KINDS if form.bind().constraint(kind)]
INSTRUCTION = "make it feel like golden hour"
ASKED = with_quality(
    [
        Question("change", "Is the light warmer than in the source picture?"),
        Question("change", "Are the shadows softer than in the source picture?"),
        Question("keep", "Is the cup still the same cup?"),
    ]
)
_PHOTOGRAPH = Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg"
_PATIENCE_S = 180.0


@dataclass(frozen=True)
class Server:
    """A thinker that runs.

    Attributes:
        url: without ``/v1``.
        model: its name for its model.
        sampling: further fields of a request, by the format that it asks for.
        most_pictures: how many it takes.
    """

    url: str
    model: str
    sampling: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    most_pictures: int = 18

    def post(self, body: Mapping[str, Any]) -> httpx.Response:
        """What it answers to a chat completion's request."""
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=_PATIENCE_S, trust_env=False)

    def sampled(self, name: str) -> dict[str, Any]:
        """The sampling fields of its requests for a format."""
        return {"temperature": 1, "max_tokens": 5000, **self.sampling.get(name, {})}


def photographs() -> tuple[bytes, bytes]:
    """A small source, and the same in warmer light."""
    with Image.open(_PHOTOGRAPH) as opened:
        source = opened.convert("RGB").resize((160, 120))
    warmth = [(1.1, 0), (1.0, 4), (0.8, 0)]
    bands = [
        band.point(lambda value, gain=gain, lift=lift: min(255, int(value * gain) + lift))
        for band, (gain, lift) in zip(source.split(), warmth, strict=True)
    ]
    return _encoded(source, "JPEG"), _encoded(Image.merge("RGB", bands), "PNG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


SOURCE, CANDIDATE = photographs()
PICTURES = Picture(SOURCE, "image/jpeg"), Picture(CANDIDATE, "image/png")


def critique_request(server: Server, name: FormatName, kind: Constraint = "none", **more: Any) -> dict[str, Any]:
    """A critique's request, as the orchestrator writes it."""
    form, questions = FORMATS[name], ASKED if name == "checklist" else ()
    request = CritiqueRequest(*PICTURES, INSTRUCTION, "warm evening light, long soft shadows", questions)
    messages = build(request, form.template())
    return {"model": server.model, "messages": messages, **server.sampled(name), **form.bind(questions).constraint(kind), **more}


def answered(response: httpx.Response) -> tuple[list[Reply], dict[str, int]]:
    """The replies and the usage of an answer that must be one."""
    assert response.status_code == 200, response.text
    replies = read_completions(response.json(), 16)
    usage = response.json()["usage"]
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert isinstance(usage["prompt_tokens_details"]["cached_tokens"], int)
    return [reply for reply in replies if isinstance(reply, Reply)], usage


class ThinkerContract:
    """The tests; `server` is the suite's."""

    @pytest.mark.parametrize(("name", "kind"), CASES)
    def test_a_critique_keeps_to_its_constraint(self, server: Server, name: FormatName, kind: Constraint) -> None:
        """To the letter, so it can be parsed; the usage is reported."""
        questions = ASKED if name == "checklist" else ()
        form = FORMATS[name].bind(questions)
        (reply,), _ = answered(server.post(critique_request(server, name, kind, seed=1)))
        assert reply.finish_reason == "stop"
        assert form.conforms(reply, kind), reply.content
        critique = form.parse(reply)
        assert isinstance(critique, Critique), (critique, reply.content)
        assert [answer.number for answer in critique.answers] == list(range(1, len(questions) + 1))

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_questions_of_a_checklist_keep_to_theirs(self, server: Server, kind: Constraint) -> None:
        """One picture and an instruction in, questions of both kinds out."""
        messages = build_questions(QuestionsRequest(PICTURES[0], INSTRUCTION), FORMATS["checklist"].template())
        sampled = server.sampled("checklist")
        body = {"model": server.model, "messages": messages, **sampled, **QUESTIONS.constraint(kind), "seed": 1}
        (reply,), _ = answered(server.post(body))
        assert QUESTIONS.conforms(reply, kind), reply.content
        questions = QUESTIONS.parse(reply)
        assert isinstance(questions, tuple), (questions, reply.content)
        assert {question.kind for question in questions} == {"change", "keep", "quality"}

    def test_two_choices_are_two_replies(self, server: Server) -> None:
        """Both of the constraint's form: what `samples` asks for."""
        form = FORMATS["editthinker"].bind()
        replies, _ = answered(server.post(critique_request(server, "editthinker", "regex", n=2)))
        assert len(replies) == 2
        assert all(isinstance(form.parse(reply), Critique) for reply in replies)

    def test_another_model_is_not_there(self, server: Server) -> None:
        """404, with OpenAI's error in the body."""
        response = server.post(critique_request(server, "editthinker", model="another"))
        assert response.status_code == 404
        assert "another" in response.json()["error"]["message"]

    def test_more_pictures_than_it_takes_are_refused(self, server: Server) -> None:
        """As the caller's mistake, and the server lives on."""
        body = critique_request(server, "editthinker", max_tokens=1)
        (message,) = body["messages"]
        picture = next(part for part in message["content"] if part["type"] == "image_url")
        body["messages"] = [{**message, "content": [*message["content"], *[picture] * (server.most_pictures - 1)]}]
        self._refused(server, body)

    @pytest.mark.parametrize(
        "url",
        ["data:image/png;base64,bm8gcGljdHVyZQ==", "data:image/png;base64,????", "data:image/png;base64,"],
        ids=["text", "no base64", "nothing"],
    )
    def test_what_is_no_picture_is_refused(self, server: Server, url: str) -> None:
        """As the caller's mistake, and the server lives on."""
        body = critique_request(server, "editthinker", max_tokens=1)
        picture = next(part for part in body["messages"][0]["content"] if part["type"] == "image_url")
        picture["image_url"]["url"] = url
        self._refused(server, body)

    def _refused(self, server: Server, body: Mapping[str, Any]) -> None:
        response = server.post(body)
        assert 400 <= response.status_code < 500, response.text
        assert response.json()["error"]["message"]
        assert server.post(critique_request(server, "editthinker", max_tokens=1)).status_code == 200

    async def test_the_orchestrator_finds_it_ready(self, server: Server) -> None:
        """By its list of models."""
        async with asking("thinker", server.url) as upstream:
            assert await HttpThinker(upstream, self._dialect(server, "editthinker")).ready()

    @pytest.mark.parametrize("name", ["editthinker", "json_schema"])
    async def test_the_orchestrator_gets_a_critique_at_once(self, server: Server, name: FormatName) -> None:
        """By the constraint that it finds by itself; no reply has to be written twice."""
        outcomes: list[str] = []
        async with asking("thinker", server.url) as upstream:
            thinker = HttpThinker(upstream, self._dialect(server, name), outcomes.append)
            replies = [await thinker.critique(self._order()) for _ in range(2)]
        assert outcomes == ["ok", "ok"]
        for reply in replies:
            assert not reply.repaired
            assert 0 <= reply.semantic <= 10 and 0 <= reply.quality <= 10
            assert reply.usage.prompt_tokens > 0 and reply.usage.completion_tokens > 0

    async def test_the_orchestrator_gets_a_checklist_and_answers_to_it(self, server: Server) -> None:
        """The questions of the session, then a critique that answers each."""
        outcomes: list[str] = []
        async with asking("thinker", server.url) as upstream:
            thinker = HttpThinker(upstream, self._dialect(server, "checklist"), outcomes.append)
            made = await thinker.checklist(ChecklistOrder(stored(SOURCE), INSTRUCTION, _PATIENCE_S))
            reply = await thinker.critique(self._order(made.questions))
        assert outcomes == ["ok", "ok"]
        assert sum(question.kind != "quality" for question in made.questions) >= MIN_QUESTIONS
        assert made.usage.prompt_tokens > 0
        assert [(answer.number, answer.kind) for answer in reply.answers] == [
            (number, question.kind) for number, question in enumerate(made.questions, start=1)
        ]

    @pytest.mark.parametrize("references", [0, 1, 15])
    async def test_the_orchestrator_shows_references_and_what_may_change(self, server: Server, references: int) -> None:
        """As many as a session may have, for the questions and for a critique that answers them."""
        outcomes: list[str] = []
        more = tuple(stored(_encoded(Image.new("RGB", (160, 120), (17 * number, 90, 60)), "PNG")) for number in range(references))
        masked = Image.new("RGBA", (160, 120), (0, 0, 0, 255))
        masked.paste((0, 0, 0, 0), (20, 20, 120, 100))
        mask = stored(_encoded(masked, "PNG"))
        async with asking("thinker", server.url) as upstream:
            thinker = HttpThinker(upstream, self._dialect(server, "checklist"), outcomes.append, InProcessPool())
            made = await thinker.checklist(ChecklistOrder(stored(SOURCE), INSTRUCTION, _PATIENCE_S, "", more, mask))
            told = OutsideMask(changed=0.2, difference=9.5)
            order = replace(self._order(made.questions), references=more, mask=mask, outside_mask=told)
            replies = [await thinker.critique(order), await thinker.critique(order)]
        assert outcomes == ["ok", "ok", "ok"]
        assert all(len(reply.answers) == len(made.questions) for reply in replies)
        assert replies[0].usage.prompt_tokens > made.usage.prompt_tokens

    async def test_the_orchestrator_gets_the_mean_of_samples(self, server: Server) -> None:
        """From one request."""
        async with asking("thinker", server.url) as upstream:
            reply = await HttpThinker(upstream, self._dialect(server, "editthinker", samples=3)).critique(self._order())
        assert reply.samples == 3
        assert reply.semantic_spread >= 0

    def _dialect(self, server: Server, name: FormatName, **options: Any) -> Dialect:
        form = FORMATS[name]
        return Dialect(server.model, form, form.template(), "auto", sampling=server.sampled(name), **options)

    def _order(self, questions: tuple[ChecklistQuestion, ...] = ()) -> CritiqueOrder:
        return CritiqueOrder(stored(SOURCE), stored(CANDIDATE), INSTRUCTION, "warm evening light", _PATIENCE_S, questions)
