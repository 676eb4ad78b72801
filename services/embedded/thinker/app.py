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
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from opentelemetry import trace
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from pydantic import ValidationError

from services.embedded.cielab import U8
from services.embedded.thinker.area import Box, opened
from services.embedded.thinker.chat_completions import (
    COMPLETION,
    METRICS,
    ChatRequest,
    Reply,
    chat_body,
    chunks,
    completion,
    reply,
    responses,
)
from services.embedded.thinker.judging import judge, judge_by, questions_for
from services.embedded.thinker.reference_prompts import ReferencePrompt, read_reference, render_reference
from services.embedded.thinker.reply_constraints import MAX_ECHO, critique_format, questions_format, render_critique
from services.embedded.thinker.thread_pool import BoundedPool
from services.errors import ApiError
from services.imaging.codec import ImageLimits
from services.imaging.decode_pool import DecodePool, PoolOptions
from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import (
    Critique,
    CritiqueRequest,
    QuestionsRequest,
    UnreadableRequestError,
    read,
    read_questions,
)
from services.protocol.critique.prompts import Template
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


@dataclass
class _Server:
    """The running parts, stored in ``app.state``."""

    limits: Limits
    pool: BoundedPool
    registry: CollectorRegistry
    answered: Counter
    seconds: Histogram
    templates: dict[FormatName, Template]
    started: int
    uploads: ByteBudget
    decoder: DecodePool
    loop: asyncio.AbstractEventLoop | None = None
    warm: bool = False


def create_app(limits: Limits | None = None, origins: OriginPolicy | None = None, decoder: DecodePool | None = None) -> FastAPI:
    """The thinker as an ASGI application; it decodes pictures in processes of its own unless another decoder is given."""
    limits = limits or Limits()
    origins = origins or OriginPolicy(keyless=limits.api_key is None)
    server = _server(limits, decoder or DecodePool(PoolOptions(processes=limits.workers).for_limits(limits.images)))
    server.registry.register(origins.refused)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The pool runs one critique per thread; OpenCV's own threads would compete for the same cores.
        cv2.setNumThreads(1)
        server.loop = asyncio.get_running_loop()
        await server.pool.run(_warm_up)
        server.warm = True
        yield
        server.warm = False
        # Threads that wait for a picture need the loop.
        await asyncio.to_thread(server.pool.close)
        await server.decoder.close()
        await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="EditThinker rules",
        version="0.1.0",
        description=__doc__ or "",
        lifespan=lifespan,
        # FastAPI's own pages load scripts from another server.
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = server
    # Two pictures in base64, which is a third larger than bytes.
    middleware.install(app, max_body=limits.images.max_bytes * 3 + _TEXT_OVERHEAD, policy=origins, other_paths=_OTHER_PATHS)
    api_docs.install(app)
    authenticated = [Depends(_authenticate)]
    app.add_api_route(
        "/v1/chat/completions",
        _chat,
        methods=["POST"],
        response_class=Response,
        response_model=None,
        responses=responses(401, 408, 429, ok=COMPLETION),
        dependencies=authenticated,
        openapi_extra=chat_body(),
    )
    app.add_api_route("/v1/models", _models, methods=["GET"], responses=responses(401), dependencies=authenticated)
    app.add_api_route("/v1/models/{name:path}", _model, methods=["GET"], responses=responses(401), dependencies=authenticated)
    for path in ("/healthz", "/health"):
        app.add_api_route(path, _healthz, methods=["GET"], responses=responses())
    app.add_api_route("/readyz", _readyz, methods=["GET"], responses=responses())
    metrics = responses(ok=METRICS)
    app.add_api_route("/metrics", _metrics, methods=["GET"], response_class=Response, response_model=None, responses=metrics)
    return app


def _server(limits: Limits, decoder: DecodePool) -> _Server:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    pool = BoundedPool(limits.workers, limits.queue)
    busy = Gauge("editthinker_thinker_busy", "Critiques running or queued.", registry=registry)
    busy.set_function(lambda: pool.busy)
    return _Server(
        limits=limits,
        pool=pool,
        registry=registry,
        answered=Counter("editthinker_thinker_answers", "Chat completions by outcome.", ["outcome"], registry=registry),
        seconds=Histogram(
            "editthinker_thinker_seconds",
            "Seconds from request to reply.",
            buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        ),
        templates={form.name: form.template() for form in FORMATS.values()},
        started=int(time.time()),
        uploads=ByteBudget(limits.upload_bytes),
        decoder=decoder,
    )


def _warm_up() -> None:
    """Fill tables and caches before the first request."""
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    judge(grey, grey, "golden hour", "golden hour")


async def _authenticate(request: Request) -> None:
    """Check the API key, if one is configured."""
    server: _Server = request.app.state.server
    key = server.limits.api_key
    if key is not None:
        token = token_of(request)
        if token is None:
            raise ApiError("invalid_api_key", how_to_send(request, "<the thinker's key>"))
        if not hmac.compare_digest(token.encode(), key.encode()):
            raise ApiError("invalid_api_key", "this is not the thinker's key: EDITTHINKER_THINKER_API_KEY, where it was started")


async def _chat(request: Request) -> Response:
    """Judge a candidate against its source, or ask questions; the messages are those of `services.protocol.critique.messages`."""
    server: _Server = request.app.state.server
    began = time.perf_counter()
    try:
        async with receiving(server.uploads, request, factor=2) as received:
            chat = _validated(await middleware.read_json(received))
            if chat.model != server.limits.model:
                message = f"the model {chat.model[:MAX_ECHO]!r} does not exist; this server has {server.limits.model!r}"
                raise ApiError("model_not_found", message, param="model")
            attributes = tracing.chat_request(chat.model_dump(include={"model", "n", "max_tokens", "max_completion_tokens"}))
            trace.get_current_span().set_attributes(attributes)
            answer = await server.pool.run(partial(_reply, server, chat))
    except ApiError as exc:
        server.answered.labels(exc.code).inc()
        raise
    server.answered.labels("ok").inc()
    server.seconds.observe(time.perf_counter() - began)
    identity, created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
    if tracing.enabled():
        trace.get_current_span().set_attributes(tracing.chat_response(completion(identity, created, chat, answer)))
    if chat.stream:
        body = _events(chunks(identity, created, chat, answer))
        return StreamingResponse(body, media_type="text/event-stream", headers={"cache-control": "no-store"})
    return Response(orjson.dumps(completion(identity, created, chat, answer)), media_type="application/json")


def _validated(body: object) -> ChatRequest:
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as exc:
        raise RequestValidationError(exc.errors()) from exc


def _events(parts: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for part in parts:
        yield sse_message(part)
    yield b"data: [DONE]\n\n"


def _reply(server: _Server, chat: ChatRequest) -> Reply:
    """The reply to a request; runs on a thread of the pool.

    Raises:
        ApiError: when the messages hold no critique request or a picture cannot be read.
    """
    request, format_name = _read_messages(server, chat)
    if isinstance(request, ReferencePrompt):
        text, pictures = _reference_reply(server, chat, request)
    elif isinstance(request, QuestionsRequest):
        questions = questions_format(chat.response_format, chat.structured_outputs)
        source = _pixels(server, request.source.data, "source")
        text, pictures = questions.form.render(questions_for(request.instruction)), [source]
    else:
        requested = critique_format(
            chat.response_format, chat.structured_outputs, format_name, request.questions, places=request.places
        )
        source = _pixels(server, request.source.data, "source")
        candidate = _pixels(server, request.candidate.data, "candidate")
        box = Box() if request.area is None else opened(source, _pixels(server, request.area.data, "area"))
        critique = _critique(request, box.of(source), box.of(candidate), by_questions=requested.form.name == "checklist")
        log.info("semantic %.1f quality %.1f request %s", critique.semantic, critique.quality, middleware.request_id.get())
        text, pictures = render_critique(critique, requested.form, requested.kind), [source, candidate]
    return reply(text, chat, [(picture.shape[1], picture.shape[0]) for picture in pictures], _text(chat))


def _critique(request: CritiqueRequest, source: U8, candidate: U8, *, by_questions: bool) -> Critique:
    if by_questions:
        critique = judge_by(request.questions, source, candidate, request.instruction, request.turn_instruction)
    else:
        critique = judge(source, candidate, request.instruction, request.turn_instruction)
    return _with_remarks(critique, request)


def _with_remarks(critique: Critique, request: CritiqueRequest) -> Critique:
    """The critique with what was not measured in the two pictures."""
    remarks = [critique.reasoning]
    if request.references:
        remarks.append("The references were not looked at.")
    if request.strayed is not None and request.strayed.changed > 0:
        remarks.append(f"Of what must stay, {request.strayed.changed:.1%} changed.")
        critique = replace(critique, semantic=round(critique.semantic * (1 - request.strayed.changed), 1))
    return replace(critique, reasoning=" ".join(remark for remark in remarks if remark))


def _reference_reply(server: _Server, chat: ChatRequest, prompt: ReferencePrompt) -> tuple[str, list[U8]]:
    """The reply to a prompt of the reference whose form is its own, and the pictures."""
    if chat.structured_outputs or chat.response_format:
        param = "structured_outputs" if chat.structured_outputs else "response_format"
        message = f"{param} cannot be kept: this prompt of the EditThinker reference has a form of its own; leave it out"
        raise ApiError("unsupported_parameter", message, param=param)
    request = prompt.request
    source = _pixels(server, request.source.data, "source")
    candidate = source if prompt.kind == "rewrite" else _pixels(server, request.candidate.data, "candidate")
    critique = _critique(request, source, candidate, by_questions=False)
    return render_reference(prompt.kind, critique, request.instruction), [source, candidate][: 1 if candidate is source else 2]


def _read_messages(server: _Server, chat: ChatRequest) -> tuple[CritiqueRequest | QuestionsRequest | ReferencePrompt, FormatName]:
    """The request in the messages, and the name of the format that its prompt describes."""
    failure = UnreadableRequestError("no prompt template is known")
    for name, template in server.templates.items():
        try:
            return read(chat.messages, [template]), name
        except UnreadableRequestError as exc:
            failure = exc
    reasons = [str(failure)]
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


def _pixels(server: _Server, data: bytes, name: str) -> U8:
    """The pixels of a picture, reduced to `_MAX_PIXELS`; on a thread of the pool, which waits for the decode process."""
    assert server.loop
    work = server.decoder.decode(data, limits=server.limits.images, max_pixels=_MAX_PIXELS, param="messages")
    try:
        return np.asarray(asyncio.run_coroutine_threadsafe(work, server.loop).result(), dtype=np.uint8)
    except ApiError as exc:
        raise ApiError(exc.code, f"the {name} picture: {exc.message}", param="messages") from exc


def _text(chat: ChatRequest) -> str:
    """All text of the messages, for the token count."""
    out: list[str] = []
    for message in chat.messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        out += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(out)


def _card(server: _Server) -> dict[str, Any]:
    return {"id": server.limits.model, "object": "model", "created": server.started, "owned_by": "editthinker"}


async def _models(request: Request) -> dict[str, Any]:
    """The one model that this server has."""
    return {"object": "list", "data": [_card(request.app.state.server)]}


async def _model(name: str, request: Request) -> dict[str, Any]:
    """One model."""
    server: _Server = request.app.state.server
    if name != server.limits.model:
        raise ApiError("model_not_found", f"the model {name!r} does not exist; this server has {server.limits.model!r}")
    return _card(server)


async def _healthz() -> dict[str, str]:
    """Whether the process runs."""
    return {"status": "ok"}


async def _readyz(request: Request) -> dict[str, str]:
    """Whether the server accepts requests."""
    if not request.app.state.server.warm:
        raise ApiError("not_ready", "the thinker is starting or stopping", retry_after=1)
    return {"status": "ready"}


async def _metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(generate_latest(request.app.state.server.registry), media_type=CONTENT_TYPE_LATEST)
