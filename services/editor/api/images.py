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
from services.editor.api.fields import WorkerFields, idempotency_key, read_order, urgency
from services.editor.api.stream import events, total_ms
from services.editor.engine.run import Edited, Order, Run
from services.editor.metrics import trace_stages
from services.errors import ApiError
from services.protocol.images_api import EditForm, ImagesResponse, form_schema, read_form, sse_schema, validate
from services.serving import logs
from services.serving.multipart import received

router = APIRouter(tags=["images"])
Caller = Annotated[Context, Depends(caller)]
_STREAM = {"text/event-stream": {"schema": sse_schema()}}
_OK: dict[int | str, dict[str, Any]] = {200: {"description": "The edited pictures; events with stream=true.", "content": _STREAM}}
_REPLAYED = {"idempotent-replayed": "true"}
_ONCE = ("queue", "read")
_DURATIONS = ("queue", "read", "encode", "denoise", "decode", "edit", "write", "total")


class Stopped(BaseModel):
    """An edit that was stopped, or forgotten if it was over."""

    id: str
    object: Literal["edit"] = "edit"
    status: Literal["cancelled"] = "cancelled"


@router.post(
    "/v1/images/edits",
    response_model=ImagesResponse,
    responses=documented(408, 409, 415, 422, 429, 507, ok=_OK),
    openapi_extra={"requestBody": form_schema(WorkerFields)},
)
async def edit_image(request: Request, ctx: Caller) -> Response:
    """Edit one picture by an instruction.

    OpenAI's contract; seed, negative_prompt, num_inference_steps and the guidance scales are extensions, refused if the
    pipeline cannot honour them. A repeat with the same `Idempotency-Key` joins the running or just finished edit. With
    stream=true there are `image_edit.progress` events, `image_edit.partial_image` ones if partial_images asks for them (where
    the pipeline has steps), and an `image_edit.completed` for each picture. `Priority: u=2` (RFC 9218) puts an edit ahead.
    An answer that was not made for this request alone has the header `Idempotent-Replayed: true`.
    """
    arrived = time.perf_counter()
    key = idempotency_key(request)
    if key is not None:
        # The orchestrator's names the session, the turn and the candidate.
        logs.bind(edit_key=key)
    await refuse_early(request, ctx, key)
    form = await receive_form(request)
    fields = validate(WorkerFields, form.fields)
    order = read_order(form, fields, ctx.pipeline, ctx.limits, urgency(request))
    run, joined = ctx.runs.begin(order, key)
    headers = {"cache-control": "no-store", **(_REPLAYED if joined else {})}
    if not fields.stream:
        edited = await finished(request, ctx, run)
        if not joined:
            trace_stages(_timings(edited), arrived)
        return _reply(order, edited, arrived, headers)
    try:
        await run.accepted  # so that a broken picture is still answered with its own status
    except BaseException:
        # A refusal or a cancel: either way nobody waits for the run any more.
        ctx.runs.leave(run)
        raise
    headers["x-should-retry"] = "false"
    return StreamingResponse(events(ctx, run, arrived), media_type="text/event-stream", headers=headers)


@router.delete("/v1/edits/{key:path}", responses=documented(422))
async def stop_edit(key: str, ctx: Caller) -> Stopped:
    """Stop the edit that was asked for under this `Idempotency-Key` before its next step, or forget its answer."""
    if not ctx.runs.cancel(key):
        raise ApiError("not_found", "no edit is known under this key: it never was, failed, or is forgotten", param="key")
    return Stopped(id=key)


async def refuse_early(request: Request, ctx: Context, key: str | None) -> None:
    """Refuse what there is no room for before its pictures are kept; the body is read all the same, so that the refusal arrives.

    Raises:
        ApiError: ``overloaded`` or ``not_ready``.
    """
    try:
        ctx.runs.check_room(key)
    except ApiError:
        async for _ in request.stream():
            pass
        raise


async def receive_form(request: Request) -> EditForm:
    """The multipart form of a request.

    Raises:
        ApiError: ``unsupported_media_type`` for another kind of body, ``invalid_multipart`` for a broken one, ``invalid_value``
            for fields given twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError("unsupported_media_type", f"the body is {kind or 'of no type'}; send multipart/form-data")
    async with received(request) as form:
        return await read_form(form)


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


def _reply(order: Order, edited: list[Edited], arrived: float, headers: dict[str, str]) -> Response:
    first = edited[0]
    data = [{"b64_json": base64.b64encode(image.data).decode("ascii"), "seed": image.seed} for image in edited]
    timings = _timings(edited) | total_ms(arrived)
    body = {
        "created": int(time.time()),
        "data": data,
        "output_format": order.output_format,
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


def _timings(edited: list[Edited]) -> dict[str, float]:
    """Of the whole request: it was read once; everything else adds up, but for the batch size, which is a mean."""
    first = edited[0].timings
    total = {name: round(sum(image.timings[name] for image in edited), 3) for name in first}
    total |= {f"{stage}_ms": first[f"{stage}_ms"] for stage in _ONCE}
    if "batch_size" in total:
        total["batch_size"] = round(total["batch_size"] / len(edited), 2)
    return total
