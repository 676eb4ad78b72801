"""``POST /v1/images/edits``: OpenAI's endpoint on one worker."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from services.editor.context import Context, caller, documented
from services.editor.fields import WorkerFields, read_order
from services.editor.runs import Edited, Order, Run
from services.wire.errors import ApiError
from services.wire.images_api import EditForm, ImagesResponse, form_schema, read_form, sse_schema, validate

router = APIRouter(tags=["images"])
Caller = Annotated[Context, Depends(caller)]
_MAX_KEY = 255
_STREAM = {"text/event-stream": {"schema": sse_schema()}}
_OK: dict[int | str, dict[str, Any]] = {200: {"description": "The edited pictures; events with stream=true.", "content": _STREAM}}
_STAGES = ("queue", "decode", "edit", "encode")


@router.post(
    "/v1/images/edits",
    response_model=ImagesResponse,
    responses=documented(408, 415, 422, 429, 507, ok=_OK),
    openapi_extra={"requestBody": form_schema(WorkerFields)},
)
async def edit_image(request: Request, ctx: Caller) -> Response:
    """Edit one picture by an instruction.

    OpenAI's contract; seed, negative_prompt, num_inference_steps and guidance_scale are extensions, refused if the pipeline
    cannot honour them. A repeat with the same `Idempotency-Key` joins the running or just finished edit. With stream=true
    each picture is an `image_edit.completed` event; pipelines without steps send no partial images.
    """
    form = await receive_form(request)
    fields = validate(WorkerFields, form.fields)
    order = read_order(form, fields, ctx.pipeline, ctx.limits)
    run = ctx.runs.begin(order, idempotency_key(request))
    if not fields.stream:
        edited = await finished(request, ctx, run)
        return _reply(order, edited)
    try:
        await run.accepted  # so that a broken picture is still answered with its own status
    except BaseException:
        # A refusal or a cancel: either way nobody waits for the run any more.
        ctx.runs.leave(run)
        raise
    headers = {"cache-control": "no-store", "x-should-retry": "false"}
    return StreamingResponse(_events(ctx, run), media_type="text/event-stream", headers=headers)


async def receive_form(request: Request) -> EditForm:
    """The multipart form of a request.

    Raises:
        ApiError: ``unsupported_media_type`` for another kind of body, ``invalid_value`` for fields given twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError("unsupported_media_type", f"the body is {kind or 'of no type'}; send multipart/form-data")
    async with request.form() as form:
        return await read_form(form)


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key, or None.

    Raises:
        ApiError: ``invalid_value`` when it is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _MAX_KEY:
        raise ApiError("invalid_value", f"Idempotency-Key must have 1 to {_MAX_KEY} characters", param="Idempotency-Key")
    return key


async def finished(request: Request, ctx: Context, run: Run) -> list[Edited]:
    """Every picture of a run, unless the client leaves first.

    Raises:
        ApiError: the run's failure; ``request_timeout`` when the client left (nobody reads it).
    """
    working = asyncio.gather(*(asyncio.shield(image) for image in run.images))
    leaving = asyncio.create_task(_left(request))
    watched: list[asyncio.Future[Any]] = [working, leaving]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError("request_timeout", "the caller left before the edit was done")
        return list(working.result())
    finally:
        for future in watched:
            future.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
        ctx.runs.leave(run)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _reply(order: Order, edited: list[Edited]) -> Response:
    timings = _timings(edited)
    first = edited[0]
    body = {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(image.data).decode("ascii"), "seed": image.seed} for image in edited],
        "output_format": order.output_format,
        "size": f"{first.width}x{first.height}",
        "seed": first.seed,
        "seeds": [image.seed for image in edited],
        "applied": list(first.applied),
        "not_understood": list(first.not_understood),
        "timings": timings,
    }
    server_timing = ", ".join(f"{stage};dur={timings[f'{stage}_ms']:g}" for stage in _STAGES)
    headers = {"server-timing": server_timing, "cache-control": "no-store"}
    return Response(orjson.dumps(body), headers=headers, media_type="application/json")


def _timings(edited: list[Edited]) -> dict[str, float]:
    """Milliseconds of the whole request: it queued and decoded once, edited and encoded once a picture."""
    first = edited[0].timings
    return {
        "queue_ms": first["queue_ms"],
        "decode_ms": first["decode_ms"],
        "edit_ms": round(sum(image.timings["edit_ms"] for image in edited), 3),
        "encode_ms": round(sum(image.timings["encode_ms"] for image in edited), 3),
    }


async def _events(ctx: Context, run: Run) -> AsyncIterator[bytes]:
    """One completed event a picture, in order; comments while there is nothing to say."""
    try:
        for image in run.images:
            while not image.done():
                await asyncio.wait({image}, timeout=ctx.keepalive_s)
                if not image.done():
                    yield b": keep-alive\n\n"
            yield _event("image_edit.completed", _completed(run.order, image.result()))
    except ApiError as exc:
        yield _event("error", exc.body())
    finally:
        ctx.runs.leave(run)


def _completed(order: Order, image: Edited) -> dict[str, Any]:
    return {
        "type": "image_edit.completed",
        "b64_json": base64.b64encode(image.data).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{image.width}x{image.height}",
        "quality": "auto",
        "background": "auto",
        "output_format": order.output_format,
        "seed": image.seed,
        "applied": list(image.applied),
        "not_understood": list(image.not_understood),
        "timings": image.timings,
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
