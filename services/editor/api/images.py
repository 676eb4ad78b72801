"""``POST /v1/images/edits``: OpenAI's endpoint on one worker; ``DELETE /v1/edits/{key}`` stops an edit."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from services.editor.api.context import Context, caller, documented
from services.editor.api.fields import WorkerFields, build_request, idempotency_key, urgency
from services.editor.api.stream import events, total_ms
from services.editor.engine.async_engine import EditedImage, EditRequest, EditTask
from services.editor.metrics import trace_stages
from services.errors import ApiError, shown
from services.protocol.images_api import (
    RAW_IMAGE,
    RAW_TIMINGS,
    TRAINED,
    EditForm,
    ImagesResponse,
    form_schema,
    read_form,
    sse_schema,
    validate,
)
from services.serving import logs
from services.serving.byte_budget import receiving
from services.serving.multipart import open_form

router = APIRouter(tags=["images"])
Caller = Annotated[Context, Depends(caller)]
_STREAM = {"text/event-stream": {"schema": sse_schema()}}
_OK: dict[int | str, dict[str, Any]] = {200: {"description": "The edited pictures; events with stream=true.", "content": _STREAM}}
_REPLAYED = {"idempotent-replayed": "true"}
_ONCE = ("queue", "read")
_DURATIONS = ("queue", "read", "encode", "denoise", "decode", "edit", "write", "total")


class Stopped(BaseModel):
    """An edit that was stopped, or whose results were forgotten if it was finished."""

    id: str
    object: Literal["edit"] = "edit"
    status: Literal["cancelled"] = "cancelled"


@router.post(
    "/v1/images/edits",
    response_model=ImagesResponse,
    responses=documented(408, 409, 412, 415, 422, 429, 507, ok=_OK),
    openapi_extra={"requestBody": form_schema(WorkerFields)},
)
async def edit_image(request: Request, ctx: Caller) -> Response:
    """Edit one picture by an instruction.

    OpenAI's contract; seed, negative_prompt, num_inference_steps, the guidance scales, native_size and draft are extensions,
    refused if the pipeline does not support them. A repeat with the same `Idempotency-Key` joins the running or just finished
    edit. With stream=true there are `image_edit.progress` events, `image_edit.partial_image` ones if partial_images asks for
    them (where the pipeline has steps), and an `image_edit.completed` for each picture. `Priority: u=2` (RFC 9218) puts an edit
    ahead.
    With the header `x-source-key` (64 random hexadecimal digits) the source is kept, and a later request with the same key may
    leave `image` out; it is answered 412 `source_unknown` if the source is no longer here.
    An answer shared with an earlier request of the same key has the header `Idempotent-Replayed: true`.
    """
    arrived = time.perf_counter()
    key = idempotency_key(request)
    if key is not None:
        # The orchestrator's names the session, the turn and the candidate.
        logs.bind(edit_key=key)
    await refuse_early(request, ctx, key)
    form, kept = ctx.sources.complete(request, await receive_form(request, ctx))
    fields = validate(WorkerFields, form.fields)
    edit_request = build_request(form, fields, ctx.pipeline, ctx.limits, urgency(request))
    task, joined = ctx.engine.add_request(edit_request, key)
    if edit_request.lora is not None and not joined:
        ctx.metrics.on_lora(edit_request.lora.name)
    trained = {TRAINED: str(ctx.pipeline.capabilities.trained).lower()}
    headers = {"cache-control": "no-store", **trained, **kept, **(_REPLAYED if joined else {})}
    if not fields.stream:
        edited = await results(request, ctx, task)
        if not joined:
            trace_stages(_timings(edited), arrived)
        wants_raw = RAW_IMAGE in request.headers.get("accept", "") and len(edited) == 1 and not _tells(edited[0])
        return _raw_reply(edited[0], arrived, headers) if wants_raw else _reply(edit_request, edited, arrived, headers)
    try:
        await task.accepted  # so that a broken picture is still answered with its own status
    except BaseException:
        # A refusal, or this caller's cancellation.
        ctx.engine.detach(task)
        raise
    headers["x-should-retry"] = "false"
    return StreamingResponse(events(ctx, task, arrived), media_type="text/event-stream", headers=headers)


@router.delete("/v1/edits/{key:path}", responses=documented(422))
async def stop_edit(key: str, ctx: Caller) -> Stopped:
    """Stop the edit of this `Idempotency-Key` before its next step, or forget its results if it is finished."""
    if not ctx.engine.abort(key):
        raise ApiError(
            "not_found", "no edit is known under this key: it was never requested, has failed, or is forgotten", param="key"
        )
    return Stopped(id=key)


async def refuse_early(request: Request, ctx: Context, key: str | None) -> None:
    """Refuse a request without capacity before its pictures are stored. The body is read first, so that the refusal arrives.

    Raises:
        ApiError: ``overloaded`` or ``not_ready``.
    """
    try:
        ctx.engine.check_capacity(key)
    except ApiError:
        async for _ in request.stream():
            pass
        raise


async def receive_form(request: Request, ctx: Context) -> EditForm:
    """The multipart form of a request.

    Raises:
        ApiError: ``unsupported_media_type`` for another kind of body, ``invalid_multipart`` for a broken one, ``invalid_value``
            for fields given twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError("unsupported_media_type", f"the body is {shown(kind) or 'of no type'}; send multipart/form-data")
    async with (
        receiving(ctx.uploads, request) as body,
        open_form(body, max_file_bytes=ctx.limits.max_bytes) as form,
    ):
        return await read_form(form, WorkerFields)


async def results(request: Request, ctx: Context, task: EditTask) -> list[EditedImage]:
    """All results of a task, unless the client disconnects first.

    Raises:
        ApiError: the task's failure; ``request_timeout`` when the client disconnected (and will not read it).
    """
    images = asyncio.gather(*(asyncio.shield(image) for image in task.images))
    disconnected = asyncio.create_task(_disconnected(request))
    watched: list[asyncio.Future[Any]] = [images, disconnected]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if not images.done():
            raise ApiError("request_timeout", "the caller left before the edit was done")
        return list(images.result())
    finally:
        for future in watched:
            future.cancel()
        await asyncio.gather(images, disconnected, return_exceptions=True)
        ctx.engine.detach(task)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _reply(edit_request: EditRequest, edited: list[EditedImage], arrived: float, headers: dict[str, str]) -> Response:
    first = edited[0]
    data = [
        {"b64_json": base64.b64encode(image.data).decode("ascii"), "seed": image.seed, "unchanged": image.unchanged}
        for image in edited
    ]
    timings = _timings(edited) | total_ms(arrived)
    body = {
        "created": int(time.time()),
        "data": data,
        "output_format": edit_request.output_format,
        "size": f"{first.width}x{first.height}",
        "seed": first.seed,
        "seeds": [image.seed for image in edited],
        "applied": list(first.applied),
        "not_understood": list(first.not_understood),
        "timings": timings,
    }
    known = [stage for stage in _DURATIONS if f"{stage}_ms" in timings]
    server_timing = ", ".join(f"{stage};dur={timings[f'{stage}_ms']:g}" for stage in known)
    return Response(orjson.dumps(body), headers={"server-timing": server_timing, **headers}, media_type="application/json")


def _tells(edited: EditedImage) -> bool:
    """Whether the caller must learn more than the picture: that it is the source, or what of the prompt was not done."""
    return edited.unchanged or bool(edited.not_understood)


def _raw_reply(edited: EditedImage, arrived: float, headers: dict[str, str]) -> Response:
    """One picture's own bytes, where nothing else of the JSON is of use to the caller who asks for this."""
    timings = orjson.dumps(_timings([edited]) | total_ms(arrived)).decode()
    return Response(edited.data, headers={RAW_TIMINGS: timings, **headers}, media_type=RAW_IMAGE)


def _timings(edited: list[EditedImage]) -> dict[str, float]:
    """Durations of the whole request: sums over its edits, except for stages done once and the mean batch size."""
    first = edited[0].timings
    total = {name: round(sum(image.timings[name] for image in edited), 3) for name in first}
    total |= {f"{stage}_ms": first[f"{stage}_ms"] for stage in _ONCE}
    if "batch_size" in total:
        total["batch_size"] = round(total["batch_size"] / len(edited), 2)
    return total
