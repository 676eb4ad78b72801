"""The embedded thinker as a server: OpenAI's chat completions in front of `judging.judge`.

POST /v1/chat/completions   two pictures and two texts in (`services.protocol.critique.messages`), a critique out;
                            one picture and an instruction in, the questions of a checklist out;
                            the prompts of the EditThinker reference (`reference_prompts`), answered as its scripts read them
GET  /v1/models             the one model
GET  /healthz, /health, /readyz   alive; able to answer now
GET  /metrics               Prometheus
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import orjson
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from opentelemetry import trace
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from pydantic import ValidationError

from services.embedded.cielab import U8
from services.embedded.thinker.area import Box, opened
from services.embedded.thinker.chat_completions import (
    COMPLETION,
    METRICS,
    ChatRequest,
    Completion,
    chat_body,
    complete,
    responses,
)
from services.embedded.thinker.judging import judge, judge_by, questions_for
from services.embedded.thinker.reference_prompts import ReferencePrompt, read_reference, render_reference
from services.embedded.thinker.reply_constraints import MAX_ECHO, render_critique, requested_format
from services.embedded.thinker.thread_pool import BoundedPool
from services.errors import ApiError
from services.imaging.codec import ImageLimits
from services.imaging.decode_pool import DecodePool, PoolOptions
from services.protocol.critique.formats import FORMATS, QUESTIONS, FormatName
from services.protocol.critique.messages import (
    Critique,
    CritiqueRequest,
    Picture,
    QuestionsRequest,
    UnreadableRequestError,
    read,
    read_questions,
)
from services.serving import api_docs, middleware, tracing
from services.serving.bearer import how_to_send, token_of
from services.serving.byte_budget import ByteBudget, receiving
from services.serving.jsonlines import sse_message
from services.serving.origins import OriginPolicy

log = logging.getLogger(__name__)

_MAX_PIXELS = 4_194_304
"""As the orchestrator sends at most; the measurements are made on copies of 512 pixels a side."""
_TEXT_OVERHEAD = 1024 * 1024
_JUDGES = "this thinker judges edits; send messages to POST /v1/chat/completions"
_OTHER_PATHS = {
    "/responses": _JUDGES,
    "/completions": _JUDGES,
    "/images/edits": "this is a thinker; send pictures to the server of POST /v1/images/edits, whose thinker it is",
}


@dataclass(frozen=True)
class Limits:
    """Settings of the server: its model name, pool, queue, image limits and key."""

    model: str = "rules"
    workers: int = 2
    queue: int = 32
    images: ImageLimits = field(default_factory=ImageLimits)
    api_key: str | None = field(default=None, repr=False)
    upload_bytes: int = 512 * 1024 * 1024


class _Server:
    """The running parts, stored in ``app.state``."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, limits: Limits, decoder: DecodePool | None) -> None:
        self.limits = limits
        self.decoder = decoder or DecodePool(PoolOptions(processes=limits.workers).for_limits(limits.images))
        self.pool = BoundedPool(limits.workers, limits.queue)
        self.uploads = ByteBudget(limits.upload_bytes)
        self.templates = {form.name: form.template() for form in FORMATS.values()}
        self.warm = False
        self.card = {"id": limits.model, "object": "model", "created": int(time.time()), "owned_by": "editthinker"}
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("editthinker_thinker_busy", "Critiques running or queued.", registry=registry).set_function(lambda: self.pool.busy)
        self.answered = Counter("editthinker_thinker_answers", "Chat completions by outcome.", ["outcome"], registry=registry)
        buckets = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
        self.seconds = Histogram(
            "editthinker_thinker_seconds", "Seconds from request to reply.", buckets=buckets, registry=registry
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        # The pool runs one critique per thread; OpenCV's own threads would compete for the same cores.
        cv2.setNumThreads(1)
        self.loop = asyncio.get_running_loop()
        # Fills tables and caches before the first request.
        grey = np.full((64, 64, 3), 128, dtype=np.uint8)
        await self.pool.run(lambda: judge(grey, grey, "golden hour", "golden hour"))
        self.warm = True
        yield
        self.warm = False
        # Threads that wait for a picture need the loop.
        await asyncio.to_thread(self.pool.close)
        await self.decoder.close()
        await asyncio.to_thread(tracing.close)

    def pixels(self, picture: Picture, name: str) -> U8:
        """The pixels of a picture, reduced to `_MAX_PIXELS`; on a thread of the pool, which waits for the decode process."""
        work = self.decoder.decode(picture.data, limits=self.limits.images, max_pixels=_MAX_PIXELS, param="messages")
        try:
            return np.asarray(asyncio.run_coroutine_threadsafe(work, self.loop).result(), dtype=np.uint8)
        except ApiError as exc:
            raise ApiError(exc.code, f"the {name} picture: {exc.message}", param="messages") from exc


def _server(request: Request) -> _Server:
    server: _Server = request.app.state.server
    return server


async def _authenticate(request: Request) -> None:
    """Check the API key, if one is configured."""
    key = _server(request).limits.api_key
    if key is not None:
        token = token_of(request)
        if token is None:
            raise ApiError("invalid_api_key", how_to_send(request, "<the thinker's key>"))
        if not hmac.compare_digest(token.encode(), key.encode()):
            raise ApiError("invalid_api_key", "this is not the thinker's key: EDITTHINKER_THINKER_API_KEY, where it was started")


_open = APIRouter()
_keyed = APIRouter(prefix="/v1", dependencies=[Depends(_authenticate)])


def create_app(limits: Limits | None = None, origins: OriginPolicy | None = None, decoder: DecodePool | None = None) -> FastAPI:
    """The thinker as an ASGI application; it decodes pictures in processes of its own unless another decoder is given."""
    limits = limits or Limits()
    origins = origins or OriginPolicy(keyless=limits.api_key is None)
    server = _Server(limits, decoder)
    server.registry.register(origins.refused)
    app = FastAPI(
        title="EditThinker rules",
        version="0.1.0",
        description=__doc__ or "",
        lifespan=server.lifespan,
        # FastAPI's own pages load scripts from another server.
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = server
    # Two pictures in base64, which is a third larger than bytes.
    middleware.install(app, max_body=limits.images.max_bytes * 3 + _TEXT_OVERHEAD, policy=origins, other_paths=_OTHER_PATHS)
    api_docs.install(app)
    app.include_router(_keyed)
    app.include_router(_open)
    return app


@_keyed.post(
    "/chat/completions",
    response_class=Response,
    response_model=None,
    responses=responses(401, 408, 429, ok=COMPLETION),
    openapi_extra=chat_body(),
)
async def _chat(request: Request) -> Response:
    """Judge a candidate against its source, or ask questions; the messages are those of `services.protocol.critique.messages`."""
    server = _server(request)
    began = time.perf_counter()
    try:
        async with receiving(server.uploads, request, factor=2) as received:
            chat = _validated(await middleware.read_json(received))
            if chat.model != server.limits.model:
                message = f"the model {chat.model[:MAX_ECHO]!r} does not exist; this server has {server.limits.model!r}"
                raise ApiError("model_not_found", message, param="model")
            attributes = tracing.chat_request(chat.model_dump(include={"model", "n", "max_tokens", "max_completion_tokens"}))
            trace.get_current_span().set_attributes(attributes)
            answer = await server.pool.run(partial(_answer, server, chat))
    except ApiError as exc:
        server.answered.labels(exc.code).inc()
        raise
    server.answered.labels("ok").inc()
    server.seconds.observe(time.perf_counter() - began)
    if tracing.enabled():
        trace.get_current_span().set_attributes(tracing.chat_response(answer.whole()))
    if chat.stream:
        return StreamingResponse(_events(answer), media_type="text/event-stream", headers={"cache-control": "no-store"})
    return Response(orjson.dumps(answer.whole()), media_type="application/json")


def _validated(body: object) -> ChatRequest:
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as exc:
        raise RequestValidationError(exc.errors()) from exc


def _events(answer: Completion) -> Iterator[bytes]:
    yield from map(sse_message, answer.chunks())
    yield b"data: [DONE]\n\n"


def _answer(server: _Server, chat: ChatRequest) -> Completion:
    """The answer to a request; runs on a thread of the pool.

    Raises:
        ApiError: when the messages hold no request that is understood, or a picture cannot be read.
    """
    request, prompted = _read_messages(server, chat)
    source = server.pixels((request.request if isinstance(request, ReferencePrompt) else request).source, "source")
    pictures = [source]
    if isinstance(request, QuestionsRequest):
        form, _ = requested_format(chat.response_format, chat.structured_outputs, [QUESTIONS])
        text = form.render(questions_for(request.instruction))
    elif isinstance(request, ReferencePrompt):
        _refuse_constraints(chat)
        pictures += [] if request.kind == "rewrite" else [server.pixels(request.request.candidate, "candidate")]
        critique = _critique(request.request, source, pictures[-1], by_questions=False)
        text = render_reference(request, critique)
    else:
        names = [prompted, *(name for name in FORMATS if name != prompted)]
        forms = [FORMATS[name].bind(request.questions, places=request.places) for name in names]
        form_of_critique, kind = requested_format(chat.response_format, chat.structured_outputs, forms)
        pictures.append(server.pixels(request.candidate, "candidate"))
        box = Box() if request.area is None else opened(source, server.pixels(request.area, "area"))
        by_questions = form_of_critique.name == "checklist"
        critique = _critique(request, box.of(source), box.of(pictures[1]), by_questions=by_questions)
        log.info("semantic %.1f quality %.1f request %s", critique.semantic, critique.quality, middleware.request_id.get())
        text = render_critique(critique, form_of_critique, kind)
    return complete(chat, text, [(picture.shape[1], picture.shape[0]) for picture in pictures])


def _critique(request: CritiqueRequest, source: U8, candidate: U8, *, by_questions: bool) -> Critique:
    """The critique, with what was not measured in the two pictures."""
    texts = request.instruction, request.turn_instruction
    critique = judge_by(request.questions, source, candidate, *texts) if by_questions else judge(source, candidate, *texts)
    remarks = [critique.reasoning]
    if request.references:
        remarks.append("The references were not looked at.")
    if request.strayed is not None and request.strayed.changed > 0:
        remarks.append(f"Of what must stay, {request.strayed.changed:.1%} changed.")
        critique = replace(critique, semantic=round(critique.semantic * (1 - request.strayed.changed), 1))
    return replace(critique, reasoning=" ".join(remark for remark in remarks if remark))


def _refuse_constraints(chat: ChatRequest) -> None:
    """A prompt of the reference whose form is its own takes no other."""
    for param in ("structured_outputs", "response_format"):
        if getattr(chat, param):
            message = f"{param} cannot be kept: this prompt of the EditThinker reference has a form of its own; leave it out"
            raise ApiError("unsupported_parameter", message, param=param)


def _read_messages(server: _Server, chat: ChatRequest) -> tuple[CritiqueRequest | QuestionsRequest | ReferencePrompt, FormatName]:
    """The request in the messages, and the name of the format that its prompt describes."""
    reasons: list[str] = []
    for name, template in server.templates.items():
        try:
            return read(chat.messages, [template]), name
        except UnreadableRequestError as exc:
            reasons = [str(exc)]
    try:
        prompt = read_reference(chat.messages)
    except UnreadableRequestError as exc:
        reasons.append(str(exc))
    else:
        # The tags are those of our own format, which a constraint can ask for in the same way.
        return (prompt.request if prompt.kind == "tagged" else prompt), "editthinker"
    try:
        return read_questions(chat.messages, server.templates.values()), "checklist"
    except UnreadableRequestError as exc:
        reasons.append(f"for questions, {exc}")
        raise ApiError("invalid_value", "; ".join(reasons), param="messages") from exc


@_keyed.get("/models", responses=responses(401))
async def _models(request: Request) -> dict[str, Any]:
    """The one model that this server has."""
    return {"object": "list", "data": [_server(request).card]}


@_keyed.get("/models/{name:path}", responses=responses(401))
async def _model(name: str, request: Request) -> dict[str, Any]:
    """One model."""
    card = _server(request).card
    if name != card["id"]:
        raise ApiError("model_not_found", f"the model {name!r} does not exist; this server has {card['id']!r}")
    return card


@_open.get("/healthz", responses=responses())
@_open.get("/health", responses=responses())
async def _healthz() -> dict[str, str]:
    """Whether the process runs."""
    return {"status": "ok"}


@_open.get("/readyz", responses=responses())
async def _readyz(request: Request) -> dict[str, str]:
    """Whether the server accepts requests."""
    if not _server(request).warm:
        raise ApiError("not_ready", "the thinker is starting or stopping", retry_after=1)
    return {"status": "ready"}


@_open.get("/metrics", response_class=Response, response_model=None, responses=responses(ok=METRICS))
async def _metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(generate_latest(_server(request).registry), media_type=CONTENT_TYPE_LATEST)
