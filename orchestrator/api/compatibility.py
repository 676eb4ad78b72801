"""The fields of OpenAI's image edits, and of other servers of that endpoint: what each does here, in one table.

`FIELDS` is the table; docs/api.md shows it, and a test compares them. `settle` applies it. A field that cannot be honoured is
refused (strict), or left out and named in the reply (lenient), and never ignored in silence. What changes which picture is
edited (a mask, further pictures, markings) is refused in both modes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from orchestrator.api.fields import ImagesEditFields, LoopFields, SessionFields
from orchestrator.loop.events import SessionCreated, Strategy
from orchestrator.loop.session import Session
from services.errors import MAX_NAME, ApiError, shown
from services.protocol.images_api import ImagesUsage, InputTokens, OutputTokens, validate

Compatibility = Literal["strict", "lenient"]
Verdict = Literal["honoured", "kept", "editor", "not honoured", "refused"]
"""What happens to a field: it has its effect; it is stored; it goes to editors that declare it, and is not honoured with others;
it cannot be honoured; it is refused in both modes.
"""
_Fields = TypeVar("_Fields", ImagesEditFields, SessionFields)
IGNORED_HEADER: Final = "EditThinker-Ignored"


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the table.

    Attributes:
        does: what it does here, or why it does nothing.
    """

    name: str
    verdict: Verdict
    does: str


FIELDS: Final = (
    Field("image, image[], image[0]", "honoured", "the source and up to 15 [references](#references-and-masks), as files"),
    Field("images", "honoured", 'in JSON: `[{"image_url": …}, …]`'),
    Field("image_url, url", "honoured", "an https URL or a data URL in place of a file (vLLM-Omni, SGLang)"),
    Field("mask", "editor", "[where the picture may change](#references-and-masks); refused in both modes by others"),
    Field("markup", "refused", "draw it into the picture, or say it in `prompt`"),
    Field("prompt", "honoured", "the instruction, 1 to 32,000 characters"),
    Field("model", "honoured", "the name or alias of a configured editor; the default one if absent"),
    Field("n", "honoured", "return the *n* best candidates, best first"),
    Field("size", "editor", "`auto` is the source's size; `WIDTHxHEIGHT` goes to editors that take it; see `fit`"),
    Field("quality", "honoured", "[how much is tried](#quality)"),
    Field("background", "honoured", "`opaque` lays the picture on white; `transparent` goes to editors that declare it"),
    Field("input_fidelity", "editor", "`high` or `low`"),
    Field("moderation", "editor", "`auto` changes nothing; `low` goes to the editor"),
    Field("complexity", "editor", "`low`, `medium` or `high`"),
    Field("response_format", "honoured", "`b64_json`, or `url`: a [link](#keys) that works for an hour; not with `stream`"),
    Field("output_format", "honoured", "png, jpeg or webp, the format of your own file if absent; gif and svg are refused"),
    Field("output_compression", "honoured", "0 to 100, for jpeg and webp"),
    Field("stream", "honoured", "see [streaming](#streaming)"),
    Field("partial_images", "honoured", "0 to 3; all of them if absent"),
    Field("user", "kept", "stored with the session"),
    Field("safety_identifier", "kept", "stored as `user`, before which it goes, and returned"),
    Field("frame_count, frame_duration_ms", "not honoured", "only for gif"),
    Field("svg", "not honoured", "only for svg"),
    Field("style", "not honoured", "say it in `prompt`"),
    Field("reference_image, mask_image", "refused", "vLLM-Omni: send files as `image` and `mask`"),
    Field("infer_align_image_size", "not honoured", "vLLM-Omni: the result has the source's size"),
    Field("enhance_prompt", "not honoured", "SGLang: send `prepare`, where the editor has a preparer"),
    Field("output_quality", "not honoured", "SGLang: send `output_compression`"),
    Field("generator_device", "not honoured", "SGLang: the editor chooses"),
    Field("enable_teacache", "not honoured", "SGLang: the editor chooses"),
    Field("enable_upscaling, upscaling_scale, upscaling_model_path", "not honoured", "SGLang: pictures are not enlarged"),
    Field("perf_dump_path, task_type", "not honoured", "SGLang: nothing here corresponds"),
)
"""The table."""
_RULES: Final = {name: field for field in FIELDS for name in field.name.split(", ")}
NAMES: Final = frozenset(_RULES)
"""The names in the table."""
_ELSEWHERE: Final[Mapping[type[LoopFields], Mapping[str, str]]] = {
    ImagesEditFields: {"review": "one call waits for no person; to review an edit, use POST /v1/sessions"},
    SessionFields: {
        "stream": "follow the session at GET /v1/sessions/{id}/events",
        "partial_images": "follow the session at GET /v1/sessions/{id}/events",
        "output_format": "ask for it with the picture: GET /v1/sessions/{id}/image?format=jpeg",
        "output_compression": "ask for it with the picture: GET /v1/sessions/{id}/image?format=jpeg&compression=80",
        "response_format": "fetch the picture at GET /v1/sessions/{id}/image",
        "background": "it belongs to POST /v1/images/edits; a session's pictures are served as they were made",
    },
}
"""Fields that another route has; the only one that nobody may lose is `review`."""
_MAX_NAMES: Final = 200
"""That are looked up; `validate` refuses as many."""
_NEVER_IGNORED: Final = frozenset({"review", "mask"})
_PICTURES: Final = ("image", "images", "image[]", "image_url", "url", "mask", "mask[]", "mask_url")
"""Names that are nearly one of these may be those of a picture."""
_NEARLY: Final = 0.8
_MAX_HEADER: Final = 1024
"""Characters of a header's value; nginx takes 4 KiB of headers by default (proxy_buffer_size), Node 16 KiB."""


def settle(
    model: type[_Fields], given: Mapping[str, Any], check: Callable[[_Fields], None], mode: Compatibility
) -> tuple[_Fields, tuple[str, ...]]:
    """The fields of a request with `quality` carried out, and the names that were left out because they cannot be honoured.

    Args:
        check: everything else that refuses fields, as `ApiError`.

    Raises:
        ApiError: for what is wrong; in strict mode also for what cannot be honoured.
    """
    rest, ignored = dict(given), list[str]()
    while True:
        try:
            for name in list(rest)[:_MAX_NAMES]:
                _check_name(model, name)
            fields = validate(model, rest)
            fields = fields.model_copy(update=_shape_of(fields))
            check(fields)
        except ApiError as exc:
            if mode == "strict" or not _may_be_ignored(exc, rest, model):
                raise
            ignored.append(str(exc.param))
            del rest[str(exc.param)]
        else:
            return fields, tuple(ignored)


def ignored_header(ignored: tuple[str, ...]) -> dict[str, str]:
    """The header that names what was ignored; none where nothing was. One that would be too long ends with dots."""
    if not ignored:
        return {}
    names = [quote(name, safe="[]") for name in ignored]
    shown_names, size = list[str](), len("...")
    for name in names:
        size += len(name) + len(", ")
        shown_names.append(name if size <= _MAX_HEADER else "...")
        if size > _MAX_HEADER:
            break
    return {IGNORED_HEADER: ", ".join(shown_names)}


def _check_name(model: type[LoopFields], name: str) -> None:
    """Refuse a field that this API knows and does not take, with what to do in its place."""
    # `svg[model]`, as clients write the members of an object.
    field = _RULES.get(name) or _RULES.get(name.partition("[")[0])
    if place := _ELSEWHERE[model].get(name):
        raise ApiError("unsupported_parameter", f"{name}: {place}", param=name)
    if field is None or field.verdict not in {"not honoured", "refused"}:
        return
    # Refused ones have a code that is not ignored.
    code = "unsupported_parameter" if field.verdict == "not honoured" else "invalid_value"
    raise ApiError(code, f"{shown(name)} cannot be honoured ({field.does.replace('`', '')}); leave it out", param=name)


def _may_be_ignored(exc: ApiError, given: Mapping[str, Any], model: type[LoopFields]) -> bool:
    name = exc.param
    if name is None or name not in given or name in _NEVER_IGNORED:
        return False
    if exc.code == "unknown_parameter":
        # Likely misspelt: what it means would be lost.
        misspelt = len(name) > MAX_NAME or difflib.get_close_matches(name, model.model_fields, 1)
        return not misspelt and not difflib.get_close_matches(name, _PICTURES, 1, _NEARLY)
    return exc.code == "unsupported_parameter"


_MEDIUM_TURNS: Final = 2


def _shape_of(fields: ImagesEditFields | SessionFields) -> dict[str, Any]:
    """The strategy and turns that `quality` means. Explicit ones win over it, where they do not contradict it.

    Raises:
        ApiError: ``unsupported_parameter`` for a quality that is not honoured.
    """
    quality = fields.quality
    if quality in {"xhigh", "max"}:
        message = f"quality: {quality} cannot be honoured; send high, or strategy=think_best_of_n for more candidates"
        raise ApiError("unsupported_parameter", message, param="quality")
    explicit = fields.model_fields_set & {"strategy", "max_turns", "candidates"}
    named = {name: getattr(fields, name) for name in sorted(explicit)}
    if quality == "low":
        return _agreed(
            quality,
            named,
            {"strategy": ("single",), "max_turns": (1, None), "candidates": (fields.n, None)},
            {"strategy": "single"},
        )
    if quality == "medium":
        strategies: tuple[Strategy, ...] = ("think", "think_best_of_n")
        meant = {"strategy": strategies, "max_turns": (_MEDIUM_TURNS, None)}
        return _agreed(quality, named, meant, {"max_turns": _MEDIUM_TURNS})
    return {}


def _agreed(
    quality: str, named: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], means: dict[str, Any]
) -> dict[str, Any]:
    for name, value in named.items():
        if name in allowed and value not in allowed[name]:
            said = " and ".join(f"{key}={meant}" for key, meant in means.items())
            message = f"quality: {quality} means {said}, and the request says {name}={value}; leave one of them out"
            raise ApiError("unsupported_parameter", message, param="quality")
    return means


def quality_of(created: SessionCreated) -> Literal["low", "medium", "high"]:
    """What a session does, as OpenAI's quality."""
    if created.strategy == "single":
        return "low"
    return "medium" if created.strategy != "best_of_n" and created.limits.max_turns <= _MEDIUM_TURNS else "high"


def usage_of(session: Session) -> ImagesUsage:
    """OpenAI's usage: the thinker's tokens of the whole session, and the images that were made."""
    totals = session.totals
    # Chat completions do not tell an image's tokens from a text's.
    return ImagesUsage(
        input_tokens=totals.prompt_tokens,
        output_tokens=totals.completion_tokens,
        total_tokens=totals.prompt_tokens + totals.completion_tokens,
        input_tokens_details=InputTokens(image_tokens=0, text_tokens=totals.prompt_tokens, cached_tokens=totals.cached_tokens),
        output_tokens_details=OutputTokens(image_tokens=0, text_tokens=totals.completion_tokens),
        image_count=totals.edits,
    )
