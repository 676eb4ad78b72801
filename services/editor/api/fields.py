"""The fields of an edit request. Those that the pipeline does not support are refused, never ignored."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final, Literal

from fastapi import Request
from pydantic import Field

from services.editor.engine.async_engine import EditRequest
from services.editor.pipelines import Capabilities, LoraChoice, Pipeline
from services.errors import ApiError
from services.imaging.codec import ImageLimits, OutputFormat, digest
from services.protocol.images_api import LORA_SCALES, EditFields, EditForm, LoraName, NegativePrompt, source_and_references

MAX_SEED = 2**32 - 10
"""Largest seed: torch's generator on a CPU has 32 bits of it, and a request for n pictures uses the n - 1 seeds after it too."""
_LOSSLESS_DEFAULT = 100
_EXTENSIONS = ("num_inference_steps", "guidance_scale", "true_cfg_scale", "image_guidance_scale", "strength")
_MAX_KEY = 255
_URGENCY = re.compile(r"(?:^|,)\s*u=([0-7])\s*(?:,|;|$)")
_DEFAULT_URGENCY = 3
"""RFC 9218, section 4.1: urgency 0 (highest) to 7 (lowest), 3 by default."""


_MAY_DIFFER: Final = frozenset({"native_size", "stream", "partial_images"})


class WorkerFields(EditFields):
    """OpenAI's fields, and the extensions that diffusion editors share."""

    quality: Literal["auto"] | None = Field(None, description="Only `auto`.")
    background: Literal["auto"] | None = Field(None, description="Only `auto`.")
    output_format: OutputFormat = Field("png", description="Encoding of the returned images.")
    partial_images: int | None = Field(
        None, ge=0, le=3, description="How many unfinished pictures to stream; a pipeline without steps sends none."
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Decides everything random; picture i uses seed + i.")
    negative_prompt: NegativePrompt | None = Field(None, description="What the picture should not show.")
    num_inference_steps: int | None = Field(None, ge=1, le=1000, description="Denoise steps.")
    guidance_scale: float | None = Field(None, ge=0, le=100, description="How closely to follow the prompt.")
    true_cfg_scale: float | None = Field(None, ge=0, le=100, description="The same by classifier-free guidance; twice the work.")
    image_guidance_scale: float | None = Field(None, ge=0, le=100, description="How closely to keep to the source.")
    strength: float | None = Field(None, ge=0, le=1, description="How far to depart from the source.")
    lora: LoraName | None = Field(None, description="The LoRA to edit with, by its registered name; `model` may name it, too.")
    lora_scale: float | None = Field(
        None, ge=LORA_SCALES[0], le=LORA_SCALES[1], description="Its strength; as registered if absent."
    )
    native_size: bool = Field(
        False, description="Return the picture as the model made it, about `native_pixels` large, not scaled to `size`."
    )
    draft: bool = Field(
        False, description="An edit at a lower area and with fewer steps, returned at its own size; num_inference_steps wins."
    )


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key, or None.

    Raises:
        ApiError: ``invalid_value`` when it is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _MAX_KEY:
        raise ApiError("invalid_value", f"Idempotency-Key must have 1 to {_MAX_KEY} characters", param="Idempotency-Key")
    return key


def urgency(request: Request) -> int:
    """Head starts from the request's ``Priority`` header (RFC 9218); a header that cannot be parsed gives none."""
    found = _URGENCY.search(request.headers.get("priority", ""))
    return _DEFAULT_URGENCY - int(found[1]) if found else 0


def build_request(form: EditForm, fields: WorkerFields, pipeline: Pipeline, limits: ImageLimits, urgency: int = 0) -> EditRequest:
    """Validate the fields against the pipeline's capabilities.

    Raises:
        ApiError: ``unsupported_parameter``, ``invalid_value``, ``model_not_found`` and the like, naming parameter and fix.
    """
    texts = [picture for picture in form.images if isinstance(picture, str)]
    if texts or isinstance(form.mask, str):
        message = "this worker fetches nothing; send the picture as the file part image, and a mask as mask"
        raise ApiError("unsupported_parameter", message, param="image" if texts else "mask")
    images = [picture for picture in form.images if isinstance(picture, bytes)]
    image, references = source_and_references(images)
    capabilities = pipeline.capabilities
    _check_common(fields, pipeline.name, capabilities)
    if len(form.images) > capabilities.max_images:
        most = f"{capabilities.max_images} picture{'' if capabilities.max_images == 1 else 's'}"
        message = f"image was given {len(form.images)} times; {pipeline.name} takes {most}: send no more"
        raise ApiError("invalid_value", message, param="image")
    if form.mask is not None and not capabilities.mask:
        raise _unsupported("mask", pipeline.name, capabilities)
    if fields.negative_prompt is not None:
        _check_negative_prompt(fields, capabilities, pipeline.name)
    if fields.draft and not capabilities.draft:
        raise _unsupported("draft", pipeline.name, capabilities)
    for name in ("prompt", "negative_prompt"):
        _check_tokens(name, getattr(fields, name), capabilities, pipeline.name)
    size = fields.pixels()
    if size is not None:
        _check_size(size, capabilities, pipeline.name, limits)
    seed = fields.seed if fields.seed is not None else secrets.randbelow(2**31)
    return EditRequest(
        image=image,
        mask=form.mask,
        prompt=fields.prompt,
        negative_prompt=fields.negative_prompt,
        seeds=tuple(seed + index for index in range(fields.n)),
        size=size,
        parameters=_parameters(fields, capabilities, pipeline.name),
        output_format=fields.output_format,
        output_compression=fields.output_compression,
        fingerprint=_fingerprint(form),
        source=digest(image),
        previews=min(fields.partial_images or 0, capabilities.partial_images),
        urgency=urgency,
        references=references,
        lora=_lora(fields, capabilities, pipeline.name),
        native_size=fields.native_size,
        draft=fields.draft,
    )


def _check_common(fields: WorkerFields, name: str, capabilities: Capabilities) -> None:
    if fields.model is not None and fields.model != name and fields.model not in capabilities.loras:
        raise unknown_model(fields.model, name, capabilities)
    if fields.response_format != "b64_json":
        message = "this worker keeps no files to point at; leave response_format out or send b64_json"
        raise ApiError("unsupported_parameter", message, param="response_format")
    if fields.partial_images and not fields.stream:
        raise ApiError("invalid_value", "partial_images needs stream=true", param="partial_images")
    if fields.output_format == "png" and fields.output_compression not in (None, _LOSSLESS_DEFAULT):
        message = "output_compression is the quality of jpeg and webp; leave it out for png"
        raise ApiError("invalid_value", message, param="output_compression")


def unknown_model(model: str, name: str, capabilities: Capabilities) -> ApiError:
    """The refusal of a model that a worker does not serve; names those it does."""
    loras = ", ".join(map(repr, sorted(capabilities.loras)))
    served = f"{name!r}" + (f", and with a LoRA {loras}" if loras else "")
    return ApiError("model_not_found", f"there is no model {model!r} here; this worker serves {served}", param="model")


def _lora(fields: WorkerFields, capabilities: Capabilities, name: str) -> LoraChoice | None:
    """The LoRA that the fields ``lora`` or ``model`` name."""
    known, chosen = capabilities.loras, fields.lora
    given = next((param for param in ("lora", "lora_scale") if getattr(fields, param) is not None), None)
    if given is not None and not known:
        raise _unsupported(given, name, capabilities)
    if fields.model in known:
        if chosen not in {None, fields.model}:
            message = f"lora: the model {fields.model!r} is {name} with another LoRA; leave lora out, or send model={name}"
            raise ApiError("invalid_value", message, param="lora")
        chosen = fields.model
    if chosen is None:
        if fields.lora_scale is not None:
            raise ApiError("invalid_value", "lora_scale is the strength of a LoRA; send lora too", param="lora_scale")
        return None
    if chosen not in known:
        message = f"lora: there is no LoRA {chosen!r} here; registered are: {', '.join(sorted(known))}"
        raise ApiError("invalid_value", message, param="lora")
    return LoraChoice(chosen, known[chosen] if fields.lora_scale is None else fields.lora_scale)


def _check_tokens(param: str, text: str | None, capabilities: Capabilities, name: str) -> None:
    # Without case: CLIP's tokenizers lower it first.
    lowered = (text or "").lower()
    for token in sorted(capabilities.special_tokens):
        if token.lower() in lowered:
            message = f"{param}: it holds {token}, which {name} reads as a mark of its own; leave it out"
            raise ApiError("invalid_value", message, param=param)


def _check_size(size: tuple[int, int], capabilities: Capabilities, name: str, limits: ImageLimits) -> None:
    if not capabilities.resize:
        raise _unsupported("size", name, capabilities)
    if size[0] * size[1] > limits.max_pixels or max(size) > limits.max_side:
        message = f"size is above {limits.max_pixels:,} pixels or {limits.max_side:,} a side; ask for a smaller picture"
        raise ApiError("invalid_value", message, param="size")


def _parameters(fields: WorkerFields, capabilities: Capabilities, name: str) -> dict[str, float]:
    chosen: dict[str, float] = {}
    for parameter in _EXTENSIONS:
        value = getattr(fields, parameter)
        allowed = capabilities.parameters.get(parameter)
        if value is None:
            continue
        if allowed is None:
            raise _unsupported(parameter, name, capabilities)
        if not allowed.admits(value):
            message = f"{parameter} must be {allowed.words} for {name}"
            raise ApiError("invalid_value", message, param=parameter)
        chosen[parameter] = value
    return chosen


def _check_negative_prompt(fields: WorkerFields, capabilities: Capabilities, name: str) -> None:
    if not capabilities.negative_prompt:
        raise _unsupported("negative_prompt", name, capabilities)
    needed = capabilities.negative_prompt_needs
    if needed is None:
        return
    given = getattr(fields, needed)
    if (capabilities.parameters[needed].default if given is None else given) <= 1:
        message = f"negative_prompt has no effect for {name} unless {needed} is above 1; send {needed}, or leave it out"
        raise ApiError("invalid_value", message, param="negative_prompt")


def _unsupported(parameter: str, name: str, capabilities: Capabilities) -> ApiError:
    flags = {
        "negative_prompt": capabilities.negative_prompt,
        "mask": capabilities.mask,
        "size": capabilities.resize,
        "lora": bool(capabilities.loras),
        "draft": capabilities.draft,
    }
    takes = sorted([*capabilities.parameters, *(flag for flag, has in flags.items() if has)])
    message = f"{name} cannot honour {parameter}; leave it out (it takes {', '.join(['seed', *takes])})"
    return ApiError("unsupported_parameter", message, param=parameter)


def _fingerprint(form: EditForm) -> str:
    """Equal for requests with the same fields and files. `native_size`, and how the result is sent, may differ: another replica
    of a caller, which has not read the list of models yet, repeats an edit without them.
    """
    pictures = [picture.encode() if isinstance(picture, str) else picture for picture in (*form.images, form.mask or b"")]
    fields = sorted((name, value) for name, value in form.fields.items() if name not in _MAY_DIFFER)
    parts = [*fields, *map(digest, pictures)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
