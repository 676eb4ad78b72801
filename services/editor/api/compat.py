"""The EditThinker reference's own endpoints, so that its scripts run against this worker unchanged.

Shapes after appletea233/EditThinker, ``inference/server/apis/*_edit_api.py``. Unlike ``/v1/images/edits`` these accept
parameters that the pipeline does not support, because the reference's clients always send them; the reply lists them in
``ignored``.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.editor.api.context import Context, documented
from services.editor.api.fields import WorkerFields, build_request
from services.editor.api.images import Caller, refuse_early, results
from services.editor.engine.executor import State
from services.editor.pipelines import Capabilities
from services.errors import ApiError, shown
from services.imaging.codec import from_base64
from services.protocol.images_api import EditForm, NegativePrompt, Prompt, validate
from services.serving.byte_budget import receiving
from services.serving.middleware import read_json, request_id
from services.serving.multipart import open_form

router = APIRouter(tags=["EditThinker reference"])
_EDIT_PATHS: Final = frozenset({"/edit", "/edit-upload"})
_ERRORS: Final = 400


class ReferenceRequest(BaseModel):
    """The reference's request. Its servers ignore unknown fields, and its clients rely on that."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image: str = Field(description="The source picture, base64.")
    prompt: Prompt = Field(description="What the edit should do.")
    negative_prompt: NegativePrompt | None = None
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    guidance_scale: float | None = Field(None, ge=0.0, le=7.5)
    num_inference_steps: int | None = Field(None, ge=1, le=100)
    enhance_prompt: bool | None = Field(None, description="Accepted; this worker rewrites no prompts.")


class ReferenceReply(BaseModel):
    """The reference's reply, with the fields of the request that had no effect."""

    success: bool = Field(description="False in errors too, which have `error` in the shape of all errors of this service.")
    task_id: str | None = None
    original_image: str | None = None
    edited_image: str | None = None
    seed: int | None = None
    original_prompt: str | None = None
    enhanced_prompt: str | None = None
    gpu_id: int | None = None
    processing_time: float | None = None
    error: str | None = None
    ignored: list[str] = []


class Health(BaseModel):
    """The reference's ``/health``."""

    status: str
    gpu_manager_ready: bool
    timestamp: float


class Status(BaseModel):
    """The reference's ``/status``."""

    active_workers: int
    task_queue_size: int
    result_queue_size: int
    pending_tasks: int
    total_gpus: int
    system_ready: bool


_BODY = {"required": True, "content": {"application/json": {"schema": ReferenceRequest.model_json_schema()}}}


def _upload_body() -> dict[str, Any]:
    schema = ReferenceRequest.model_json_schema()
    schema["properties"].pop("image")
    schema["properties"]["image_file"] = {"type": "string", "format": "binary", "description": "The source picture."}
    schema["required"] = ["image_file", "prompt"]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


@router.post("/edit", responses=documented(408, 422, 429, 507), openapi_extra={"requestBody": _BODY})
async def edit(request: Request, ctx: Caller) -> ReferenceReply:
    """Edit a picture given as base64 in JSON."""
    await refuse_early(request, ctx, None)
    async with receiving(ctx.uploads, request, factor=2) as received:
        body = await read_json(received)
    fields = validate(ReferenceRequest, body)
    return await _edit(request, ctx, fields, from_base64(fields.image), fields.image, _unknown(body))


@router.post("/edit-upload", responses=documented(408, 415, 422, 429, 507), openapi_extra={"requestBody": _upload_body()})
async def edit_upload(request: Request, ctx: Caller) -> ReferenceReply:
    """Edit an uploaded picture (the part ``image_file``)."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError("unsupported_media_type", "send multipart/form-data with the part image_file")
    await refuse_early(request, ctx, None)
    async with (
        receiving(ctx.uploads, request) as received,
        open_form(received, max_file_bytes=ctx.limits.max_bytes) as form,
    ):
        part = form.get("image_file")
        if not isinstance(part, UploadFile):
            others = ", ".join(shown(name) for name, value in form.items() if isinstance(value, UploadFile))
            got = f" (a file came as {others})" if others else ""
            message = f"image_file is missing{got}; send the picture as the file part image_file"
            raise ApiError("missing_parameter", message, param="image_file")
        data = await part.read()
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
    fields = validate(ReferenceRequest, {**texts, "image": ""})
    return await _edit(request, ctx, fields, data, base64.b64encode(data).decode("ascii"), _unknown(texts))


def _unknown(sent: Mapping[str, Any]) -> list[str]:
    """Fields that the reference ignores as unknown: its own client misspells the number of steps."""
    return sorted(set(sent) - {*ReferenceRequest.model_fields, "image_file"})


async def _edit(
    request: Request, ctx: Context, fields: ReferenceRequest, image: bytes, original: str, unknown: list[str]
) -> ReferenceReply:
    start = time.perf_counter()
    supported, ignored = _supported(fields, ctx.pipeline.capabilities)
    worker_fields = validate(WorkerFields, {"prompt": fields.prompt, "seed": fields.seed, **supported})
    edit_request = build_request(EditForm({}, (image,), None), worker_fields, ctx.pipeline, ctx.limits)
    task, _ = ctx.engine.add_request(edit_request, None)
    edited = (await results(request, ctx, task))[0]
    return ReferenceReply(
        success=True,
        task_id=request_id.get(),
        original_image=original,
        edited_image=base64.b64encode(edited.data).decode("ascii"),
        seed=edited.seed,
        original_prompt=fields.prompt,
        gpu_id=0,
        processing_time=time.perf_counter() - start,
        ignored=[*ignored, *unknown],
    )


def _supported(fields: ReferenceRequest, capabilities: Capabilities) -> tuple[dict[str, Any], list[str]]:
    """(Fields that the pipeline supports, by our names; those without effect, by the reference's names)."""
    known = capabilities.parameters
    # As the reference's server for Qwen-Image-Edit, which is not guidance-distilled, does.
    guidance = "guidance_scale" if "guidance_scale" in known else "true_cfg_scale"
    asked = {guidance: fields.guidance_scale, "num_inference_steps": fields.num_inference_steps}
    supported: dict[str, Any] = {
        name: min(max(value, known[name].low), known[name].high)
        for name, value in asked.items()
        if value is not None and name in known
    }
    needed = capabilities.negative_prompt_needs
    effective = needed is None or supported.get(needed, known[needed].default) > 1
    if fields.negative_prompt is not None and capabilities.negative_prompt and effective:
        supported["negative_prompt"] = fields.negative_prompt
    sent = {
        "guidance_scale": (fields.guidance_scale, guidance in supported),
        "negative_prompt": (fields.negative_prompt, "negative_prompt" in supported),
        "num_inference_steps": (fields.num_inference_steps, "num_inference_steps" in supported),
        "enhance_prompt": (fields.enhance_prompt or None, False),
    }
    return supported, [name for name, (value, honoured) in sent.items() if value is not None and not honoured]


class ReferenceErrors:
    """ASGI middleware: errors of the edit routes have ``success: false``, which the reference's clients look at."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http" or scope["path"] not in _EDIT_PATHS:
            await self.app(scope, receive, send)
            return
        head: Message | None = None

        async def marked(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] >= _ERRORS:
                head = message
                return
            if head is None:
                await send(message)
                return
            # An error of this service is one piece.
            content = message.get("body", b"")
            # That to HEAD is empty.
            body = orjson.dumps({"success": False, **orjson.loads(content)}) if content else content
            headers = [pair for pair in head["headers"] if pair[0].lower() != b"content-length"]
            await send({**head, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            head = None
            await send({**message, "body": body})

        await self.app(scope, receive, marked)


@router.get("/health", responses=documented())
async def health(ctx: Caller) -> Health:
    """Whether the process runs and its pipeline is ready."""
    ready = ctx.executor.state is State.READY
    return Health(status="healthy" if ready else "starting", gpu_manager_ready=ready, timestamp=time.time())


@router.get("/status", responses=documented())
async def status(ctx: Caller) -> Status:
    """Edits in flight. The one worker is the thread that owns the pipeline."""
    ready = ctx.executor.state is State.READY
    return Status(
        active_workers=int(ready),
        task_queue_size=ctx.executor.waiting,
        result_queue_size=0,
        pending_tasks=ctx.executor.in_flight,
        total_gpus=1,
        system_ready=ready,
    )
