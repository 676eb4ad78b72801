"""What a caller may ask of a session, and how that becomes the session's first event."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.loop.events import Carried, Choosing, ImageRef, Limits, Review, SessionCreated, Strategy
from orchestrator.ports.collaborators import SESSIONS_THINKER, Catalogue, EditorCapabilities
from services.errors import ApiError
from services.imaging.codec import sniff
from services.imaging.shapes import Fit
from services.protocol.images_api import (
    LORA_SCALES,
    SIZE_PATTERN,
    EditFields,
    LoraName,
    Metadata,
    NegativePrompt,
    Prompt,
    Quality,
)

MAX_TURNS: Final = 20
MAX_CANDIDATES: Final = 16
MAX_TEXT_BYTES: Final = 96_000
"""32,000 characters, of any script in use; emoji and historic scripts take a byte more each."""
MAX_SEED: Final = 2**31 - 1
_DEFAULT_SHAPE: Final[dict[Strategy, tuple[int, int]]] = {
    # max_turns, candidates
    "think": (5, 1),
    "think_best_of_n": (5, 2),
    "best_of_n": (1, 4),
    "single": (1, 1),
    "adaptive": (8, 1),
}
OUTPUT_FIELDS: Final = frozenset({"output_format", "output_compression", "response_format", "stream", "partial_images"})
"""How the result is sent, which is not part of what is asked for."""
NEW_FIELDS: Final = frozenset(
    {
        *("fit", "metadata", "webhook", "webhook_secret", "input_fidelity", "moderation", "complexity", "safety_identifier"),
        *("lora", "lora_scale", "prepare", "draft", "reject_early", "judge", "training"),
    }
)
"""Fields that version 0.1 did not have."""
_SECRET_BYTES: Final = range(24, 65)
"""Of a secret, as the Standard Webhooks specification has it."""
_LONGEST_WEBP_SIDE: Final = 16_383
_NEUTRAL_COMPRESSION: Final = 100
_UNKNOWN_RETRY_S: Final = 5.0
_VERSION_WITH_REFERENCES: Final = 2
_VERSION_WITH_CHOOSING: Final = 3
_VERSION_WITH_JUDGE_OR_DRAFTS: Final = 4
"""Or early rejection."""
_DRAFT_AND_RENDER: Final = 2
"""Edits of the shortest session with drafts."""
_EDITOR_FIELDS: Final = (
    "negative_prompt",
    "num_inference_steps",
    "guidance_scale",
    "true_cfg_scale",
    "image_guidance_scale",
    "strength",
    "lora",
    "lora_scale",
    "input_fidelity",
    "complexity",
)


class LoopFields(BaseModel):
    """The extension fields of an edit: the loop's parameters, and parameters passed on to the editor."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    thinker: str | None = Field(None, max_length=200, description="Name of a configured thinker; the default one if absent.")
    judge: str | None = Field(
        None,
        max_length=200,
        description="Name of a configured judge or thinker that scores and compares; the default judge if absent, or else the "
        "session's thinker.",
    )
    strategy: Strategy = Field("think", description="think (the paper's loop), adaptive, best_of_n, think_best_of_n or single.")
    prepare: bool | None = Field(
        None,
        description="Whether the instruction is rewritten for the editor before the first edit; as the editor is set if absent.",
    )
    max_turns: int | None = Field(None, ge=1, le=MAX_TURNS, description="Maximum turns; 5, or by strategy.")
    candidates: int | None = Field(None, ge=1, le=MAX_CANDIDATES, description="Edits of each instruction, with different seeds.")
    semantic_threshold: float = Field(8, ge=0, le=10, description="Semantic score at which the loop stops.")
    quality_threshold: float = Field(8, ge=0, le=10, description="Quality score at which the loop stops.")
    patience: int = Field(2, ge=1, le=MAX_TURNS, description="Turns without a better candidate after which the loop stops.")
    deadline_s: float | None = Field(None, ge=1, description="Seconds after which the best candidate so far is the result.")
    budget_edits: int | None = Field(None, ge=1, le=1000, description="Maximum number of edits, retries included.")
    budget_editor_s: float | None = Field(None, ge=1, description="Editor seconds after which no edit is started.")
    draft: bool = Field(
        False, description="Turns make drafts, with editors that can; the best one is edited in full before the session ends."
    )
    reject_early: bool = Field(
        False,
        description="The judge scores an unfinished picture of each edit, of editors that send them; an edit that cannot become "
        "the best is stopped.",
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Seed of the first candidate; random if absent.")
    negative_prompt: NegativePrompt | None = Field(None, description="Passed on to editors that support it.")
    num_inference_steps: int | None = Field(None, ge=1, le=1000, description="Passed on to editors that support it.")
    guidance_scale: float | None = Field(None, ge=0, le=100, description="Passed on to editors that support it.")
    true_cfg_scale: float | None = Field(None, ge=0, le=100, description="Passed on to editors that support it.")
    image_guidance_scale: float | None = Field(None, ge=0, le=100, description="Passed on to editors that support it.")
    strength: float | None = Field(None, ge=0, le=1, description="Passed on to editors that support it.")
    lora: LoraName | None = Field(None, description="Passed on to editors that have a LoRA of this name.")
    lora_scale: float | None = Field(
        None, ge=LORA_SCALES[0], le=LORA_SCALES[1], description="Strength of the LoRA; the editor's default if absent."
    )
    input_fidelity: Literal["high", "low"] | None = Field(None, description="Passed on to editors that support it.")
    moderation: Literal["auto", "low"] | None = Field(None, description="`low` is passed on to editors that support it.")
    complexity: Literal["low", "medium", "high"] | None = Field(None, description="Passed on to editors that support it.")
    safety_identifier: str | None = Field(None, max_length=500, description="The end user; goes before `user`.")
    fit: Fit = Field("cover", description="With size, for a source of another shape: cover crops it, contain pads it.")
    metadata: Metadata | None = Field(
        None, description="Up to 16 pairs of your own (in a form: metadata[key]=value), by which sessions can be listed."
    )
    training: Literal["denied"] | None = Field(
        None, description="`denied`: not to be used for training, although your tenant allows that. It cannot be allowed here."
    )
    webhook: str | None = Field(
        None, min_length=1, max_length=2000, description="An https URL that is notified of this session's events."
    )
    webhook_secret: str | None = Field(
        None, max_length=200, description="With webhook: whsec_ and base64 of 24 to 64 random bytes, which sign what is sent."
    )


class ImagesEditFields(LoopFields, EditFields):
    """Fields of ``POST /v1/images/edits``: OpenAI's and the extension fields, all flat."""

    def delivered_as(self, source: bytes) -> Self:
        """With the format of the result: that of the caller's own file, if the request names none.

        Raises:
            ApiError: when `output_compression` does not fit that format.
        """
        found = sniff(source)
        own = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
        if self.background == "transparent":
            own["image/jpeg"] = "png"
        fields = self.model_copy(update={"output_format": self.output_format or own.get(found or "", "png")})
        _check_output(fields, 0)
        return fields


class SessionFields(LoopFields):
    """Fields of ``POST /v1/sessions``."""

    prompt: Prompt = Field(description="The instruction: what the edit should do.")
    model: str | None = Field(None, max_length=200, description="Name of a configured editor; the default one if absent.")
    n: int = Field(1, ge=1, le=10, description="Number of results; the session makes at least so many candidates.")
    size: str = Field("auto", pattern=SIZE_PATTERN, description="`auto` (the source's size) or WIDTHxHEIGHT in pixels.")
    user: str | None = Field(None, max_length=500, description="The end user, for your own records.")
    quality: Quality | None = Field(None, description="How much is tried: `low`, `medium`, `high`, or `auto`.")
    review: Review = Field("never", description="Wait for a reviewer after each turn, before finishing, or never.")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a session may take: by default, by default with a review, at most, and by default in a call that waits for it
    without a stream, which no byte keeps open.
    """

    default_s: float
    review_s: float
    max_s: float
    call_s: float = math.inf

    def default_of(self, *, reviewed: bool, waits: bool) -> float:
        """The default for one session."""
        default = self.review_s if reviewed else min(self.default_s, self.call_s) if waits else self.default_s
        return min(default, self.max_s)


@dataclass(frozen=True, slots=True)
class Sources:
    """The images of a request, in the shape that it asks for.

    Attributes:
        alpha: whether a pixel of the source is not opaque.
        carried: by digest, what the pictures said of their origin.
    """

    source: ImageRef
    mask: ImageRef | None = None
    references: tuple[ImageRef, ...] = ()
    alpha: bool = False
    carried: Mapping[str, Carried] = field(default_factory=dict)


def first_event(
    fields: ImagesEditFields | SessionFields,
    sources: Sources,
    catalogue: Catalogue,
    deadlines: Deadlines,
    *,
    now: float,
    seed: int,
    tenant: str = "default",
) -> SessionCreated:
    """The session's first event.

    Args:
        seed: used when the caller names none.

    Raises:
        ApiError: when the fields do not fit together, or the editor cannot honour one.
    """
    editor = editor_of(fields.model, catalogue)
    thinker = _known(fields.thinker, catalogue.thinkers, "thinker", "invalid_value")
    judge = judge_of(fields.judge, thinker, catalogue)
    judge_scores = judge not in catalogue.not_scoring
    scorer = judge if judge and judge_scores else thinker
    _check_output(fields, max(sources.source.width, sources.source.height) if fields.size == "auto" else 0)
    # `single` is the plain editor: its one candidate is the answer, also if the judge dislikes it.
    choosing = None if fields.strategy == "single" else catalogue.choosing(scorer, tenant)
    if choosing:
        choosing = choosing.model_copy(update={"compares": (judge or thinker) in catalogue.comparing})
    preparer = _preparer(fields, catalogue.editors[editor], editor)
    preparer = thinker if preparer == SESSIONS_THINKER else preparer
    draft = _draft(fields, catalogue.editors[editor], editor)
    reject_early = _reject_early(fields, catalogue.editors[editor], editor)
    return SessionCreated(
        at=now,
        version=_version(sources, choosing, preparer=preparer, judge=judge, flags=draft or reject_early),
        source=sources.source,
        references=sources.references,
        mask=sources.mask,
        instruction=fields.prompt,
        editor=editor,
        thinker=thinker,
        judge=judge,
        judge_scores=judge_scores,
        strategy=fields.strategy,
        review=_review(fields),
        limits=_limits(fields, deadlines, now),
        results=fields.n,
        seed=seed if fields.seed is None else fields.seed,
        editor_options=_editor_options(fields, catalogue.editors[editor], editor),
        checklist=scorer in catalogue.by_checklist,
        user=fields.safety_identifier or fields.user,
        metadata=fields.metadata or {},
        tenant=tenant,
        fit=fields.fit,
        alpha=sources.alpha,
        choosing=choosing,
        preparer=preparer,
        draft=draft,
        reject_early=reject_early,
        deterministic=catalogue.editors[editor].deterministic,
        carried=dict(sources.carried),
    )


def _version(sources: Sources, choosing: Choosing | None, *, preparer: str | None, judge: str | None, flags: bool) -> int:
    """Of the log: the earliest whose servers would not continue it wrongly."""
    if judge is not None or flags:
        return _VERSION_WITH_JUDGE_OR_DRAFTS
    return _VERSION_WITH_CHOOSING if choosing or preparer else _VERSION_WITH_REFERENCES if sources.references else 1


def judge_of(name: str | None, thinker: str, catalogue: Catalogue) -> str | None:
    """Who judges in place of the session's thinker; None if the thinker does.

    Raises:
        ApiError: ``invalid_value``, with the names that are known.
    """
    known = (*catalogue.judges, *catalogue.thinkers)
    judge = _known(name, known, "judge", "invalid_value", otherwise="the default") if name else catalogue.default_judge
    return None if judge == thinker else judge


def check(
    fields: ImagesEditFields | SessionFields, catalogue: Catalogue, deadlines: Deadlines, *, has_mask: bool, images: int = 1
) -> None:
    """Everything `first_event` would refuse, before a pixel is decoded.

    Args:
        has_mask: whether the request has a mask.
        images: its pictures without the mask.
    """
    editor = editor_of(fields.model, catalogue)
    thinker = _known(fields.thinker, catalogue.thinkers, "thinker", "invalid_value")
    judge = judge_of(fields.judge, thinker, catalogue)
    _check_judges(thinker, judge, catalogue)
    check_pictures(catalogue, editor, thinker, judge, images=images, has_mask=has_mask)
    check_bytes("prompt", fields.prompt)
    check_bytes("negative_prompt", fields.negative_prompt)
    _check_webhook(fields)
    _check_output(fields, 0)
    _limits(fields, deadlines, 0.0)
    _preparer(fields, catalogue.editors[editor], editor)
    _editor_options(fields, catalogue.editors[editor], editor)
    _draft(fields, catalogue.editors[editor], editor)


def _check_judges(thinker: str, judge: str | None, catalogue: Catalogue) -> None:
    """Refuse a judge that failed the server's check; the thinker too, where it scores."""
    for name in {judge or thinker, thinker if judge in catalogue.not_scoring else judge or thinker}:
        if failed := catalogue.unfit.get(name):
            message = f"judge {name!r} cannot tell a good edit from: {', '.join(failed)}; choose another judge"
            raise ApiError("judge_unfit", message, param="judge")


def check_pictures(
    catalogue: Catalogue, editor: str, thinker: str, judge: str | None = None, *, images: int, has_mask: bool
) -> None:
    """Refuse pictures that the editor, its fallback, the thinker or the judge does not take.

    Raises:
        ApiError: ``invalid_value`` or ``unsupported_parameter``, naming an editor that takes them; ``not_ready`` while it is
            not known what the editor takes.
    """
    fallback = catalogue.editors[editor].fallback
    for name in (editor, *([fallback] if fallback else [])):
        who = f"the editor {name!r}" if name == editor else f"{name!r}, the fallback of the editor {editor!r},"
        _check_editor(catalogue, name, who, images=images, has_mask=has_mask)
    for role, asked in (("thinker", thinker), ("judge", judge)):
        if asked is None:
            continue
        # A comparison shows one more.
        pair = asked == (judge or thinker) and asked in catalogue.comparing
        shown = 1 + images + has_mask + pair
        most_shown = catalogue.thinker_images.get(asked, shown)
        if shown > most_shown:
            what = "comparison" if pair else "critique"
            message = (
                f"image: the {role} {asked!r} takes {_counted(most_shown)} in a request, and a {what} of these would hold "
                f"{shown}; send {shown - most_shown} fewer, or choose another {role}"
            )
            raise ApiError("invalid_value", message, param="image")


def _check_editor(catalogue: Catalogue, name: str, who: str, *, images: int, has_mask: bool) -> None:
    takes = catalogue.editors[name]
    unknown = "mask" if has_mask and takes.mask is None else "image" if images > 1 and takes.images is None else None
    if unknown is not None:
        message = f"{unknown}: it is not known yet what {who} takes, since it has not answered; try again in a moment"
        raise ApiError("not_ready", message, param=unknown, retry_after=_UNKNOWN_RETRY_S)
    if has_mask and not takes.mask:
        others = _able(catalogue, images, has_mask=True)
        raise ApiError("unsupported_parameter", f"mask: {who} takes no mask; leave it out{_or_choose(others)}", param="mask")
    if takes.images is not None and images > takes.images:
        others = _able(catalogue, images, has_mask=has_mask)
        why = f"{images} pictures were sent, and {who} takes {_counted(takes.images)}"
        raise ApiError("invalid_value", f"image: {why}; send no more{_or_choose(others)}", param="image")


def _able(catalogue: Catalogue, images: int, *, has_mask: bool) -> list[str]:
    """The editors that take so many pictures, and a mask if there is one, as their fallbacks do."""

    def takes(name: str) -> bool:
        able = catalogue.editors[name]
        return (able.images or 1) >= images and (bool(able.mask) or not has_mask)

    names = catalogue.editors
    return [name for name, able in names.items() if takes(name) and (able.fallback is None or takes(able.fallback))]


def _or_choose(editors: list[str]) -> str:
    return f", or choose an editor that takes that: model={' or '.join(editors)}" if editors else ""


def _counted(images: int) -> str:
    return f"{images} picture{'' if images == 1 else 's'}"


def _check_webhook(fields: LoopFields) -> None:
    if (fields.webhook is None) != (fields.webhook_secret is None):
        missing = "webhook_secret" if fields.webhook else "webhook"
        raise ApiError("missing_parameter", f"{missing} is missing; send webhook and webhook_secret together", param=missing)
    try:
        size = len(base64.b64decode((fields.webhook_secret or "").removeprefix("whsec_"), validate=True))
    except ValueError:
        # Not base64, or not even ASCII.
        size = 0
    if fields.webhook_secret is not None and size not in _SECRET_BYTES:
        message = "webhook_secret: whsec_ and base64 of 24 to 64 random bytes"
        raise ApiError("invalid_value", message, param="webhook_secret")


def check_bytes(name: str, text: str | None) -> None:
    """Refuse a text that would take too much of Redis.

    Raises:
        ApiError: ``invalid_value``.
    """
    size = len(text.encode()) if text else 0
    if size > MAX_TEXT_BYTES:
        message = f"{name}: it has {size:,} bytes in UTF-8, and may have {MAX_TEXT_BYTES:,}; shorten it"
        raise ApiError("invalid_value", message, param=name)


def _check_output(fields: ImagesEditFields | SessionFields, longest_side: int) -> None:
    """Refuse before any work what could not be written out after it; `longest_side` is that of the result, if known."""
    if not isinstance(fields, ImagesEditFields):
        return
    if fields.partial_images and not fields.stream:
        raise ApiError("invalid_value", "partial_images: they are streamed; send stream=true as well", param="partial_images")
    if fields.stream and fields.response_format == "url":
        message = "response_format: a stream holds its images, as OpenAI's does; send b64_json with stream=true"
        raise ApiError("invalid_value", message, param="response_format")
    if fields.output_format == "png" and fields.output_compression not in {None, _NEUTRAL_COMPRESSION}:
        message = "output_compression: it is the quality of jpeg and webp; leave it out for png"
        raise ApiError("invalid_value", message, param="output_compression")
    if fields.background == "transparent" and fields.output_format == "jpeg":
        message = "background: jpeg has no transparency; send output_format=png or webp with background=transparent"
        raise ApiError("invalid_value", message, param="background")
    if fields.output_format == "webp" and max(fields.pixels() or (longest_side,)) > _LONGEST_WEBP_SIDE:
        message = f"output_format: webp ends at {_LONGEST_WEBP_SIDE:,} pixels a side; choose png or jpeg"
        raise ApiError("invalid_value", message, param="output_format")


def _review(fields: ImagesEditFields | SessionFields) -> Review:
    return fields.review if isinstance(fields, SessionFields) else "never"


def editor_of(model: str | None, catalogue: Catalogue) -> str:
    """The name of the editor that a request's `model` stands for.

    Raises:
        ApiError: ``model_not_found``, with the names that are known.
    """
    name = catalogue.aliases.get(model or "", model)
    return _known(name, (*catalogue.editors, *catalogue.aliases), "model", "model_not_found")


def _known(name: str | None, names: tuple[str, ...], param: str, code: str, *, otherwise: str = "the first") -> str:
    if name is None:
        return names[0]
    if name not in names:
        hint = f"send one of them, or leave it out for {otherwise}"
        raise ApiError(code, f"{param} {name!r} is not configured; known are: {', '.join(names)}; {hint}", param=param)
    return name


def _limits(fields: ImagesEditFields | SessionFields, deadlines: Deadlines, now: float) -> Limits:
    max_turns, candidates = _shape(fields)
    reviewed = _review(fields) != "never"
    waits = isinstance(fields, ImagesEditFields) and not fields.stream
    default = deadlines.default_of(reviewed=reviewed, waits=waits)
    deadline_s = default if fields.deadline_s is None else fields.deadline_s
    if deadline_s > deadlines.max_s:
        message = f"deadline_s: at most {deadlines.max_s:g} seconds"
        raise ApiError("invalid_value", message, param="deadline_s")
    if fields.budget_edits is not None and fields.budget_edits < fields.n:
        message = f"budget_edits: {fields.budget_edits} edits cannot make n={fields.n} images; raise it or lower n"
        raise ApiError("invalid_value", message, param="budget_edits")
    return Limits(
        max_turns=max_turns,
        candidates=candidates,
        semantic_threshold=fields.semantic_threshold,
        quality_threshold=fields.quality_threshold,
        patience=fields.patience,
        deadline_at=now + deadline_s,
        budget_edits=fields.budget_edits,
        budget_editor_s=fields.budget_editor_s,
    )


def _shape(fields: ImagesEditFields | SessionFields) -> tuple[int, int]:
    """(max_turns, candidates) that can make `n` images, or a refusal where the caller's own numbers cannot."""
    max_turns, candidates = _DEFAULT_SHAPE[fields.strategy]
    if fields.strategy == "single" and fields.max_turns not in {None, 1}:
        message = "max_turns: the strategy single takes one turn; leave it out, or choose think"
        raise ApiError("invalid_value", message, param="max_turns")
    if fields.strategy == "single" and fields.candidates not in {None, fields.n}:
        message = "candidates: the strategy single makes n images; leave it out, or choose best_of_n"
        raise ApiError("invalid_value", message, param="candidates")
    max_turns = fields.max_turns or max_turns
    candidates = fields.candidates or max(candidates, math.ceil(fields.n / max_turns))
    if max_turns * candidates < fields.n:
        message = f"n: {max_turns} turns of {candidates} candidates cannot make {fields.n} images; raise candidates or lower n"
        raise ApiError("invalid_value", message, param="n")
    return max_turns, candidates


def _preparer(fields: LoopFields, takes: EditorCapabilities, editor: str) -> str | None:
    """What rewrites the instruction; None if nothing does."""
    if fields.prepare and takes.preparer is None:
        message = f"prepare: the editor {editor!r} has no preparer; leave it out, or name one in the editor's settings"
        raise ApiError("unsupported_parameter", message, param="prepare")
    return takes.preparer if (takes.prepare if fields.prepare is None else fields.prepare) else None


def _draft(fields: ImagesEditFields | SessionFields, takes: EditorCapabilities, editor: str) -> bool:
    """Whether turns make drafts, or a refusal where they could not or would be of no use."""
    if not fields.draft:
        return False
    if takes.draft is None:
        message = f"draft: it is not known yet whether the editor {editor!r} makes drafts; try again in a moment"
        raise ApiError("not_ready", message, param="draft", retry_after=_UNKNOWN_RETRY_S)
    if not takes.draft:
        message = f"draft: the editor {editor!r} makes no drafts; leave it out, or choose an editor with capabilities.draft"
        raise ApiError("unsupported_parameter", message, param="draft")
    if fields.strategy == "single":
        message = "draft: the strategy single makes one edit; leave it out, or choose think"
        raise ApiError("unsupported_parameter", message, param="draft")
    if fields.n > 1:
        raise ApiError("invalid_value", "draft: one draft is edited in full; leave it out, or send n=1", param="draft")
    if fields.budget_edits is not None and fields.budget_edits < _DRAFT_AND_RENDER:
        message = "draft: a draft and the edit in full are two edits; raise budget_edits, or leave draft out"
        raise ApiError("invalid_value", message, param="draft")
    return True


def _reject_early(fields: ImagesEditFields | SessionFields, takes: EditorCapabilities, editor: str) -> bool:
    """Whether hopeless edits are stopped, or a refusal where none could be."""
    if not fields.reject_early:
        return False
    if takes.previews is None:
        message = (
            f"reject_early: it is not known yet whether the editor {editor!r} sends unfinished pictures; try again in a moment"
        )
        raise ApiError("not_ready", message, param="reject_early", retry_after=_UNKNOWN_RETRY_S)
    if not takes.previews:
        message = f"reject_early: the editor {editor!r} sends no unfinished pictures; leave it out, or choose one that does"
        raise ApiError("unsupported_parameter", message, param="reject_early")
    if fields.strategy == "single":
        message = "reject_early: the strategy single makes one edit; leave it out, or choose think"
        raise ApiError("unsupported_parameter", message, param="reject_early")
    return True


def _editor_options(fields: ImagesEditFields | SessionFields, takes: EditorCapabilities, editor: str) -> dict[str, Any]:
    wanted = {name: getattr(fields, name) for name in _EDITOR_FIELDS if getattr(fields, name) is not None}
    if fields.size != "auto":
        wanted["size"] = fields.size
    elif fields.fit != "cover":
        message = "fit: it says how to come to a size; send size too, or leave it out"
        raise ApiError("unsupported_parameter", message, param="fit")
    if fields.moderation == "low":
        wanted["moderation"] = fields.moderation
    if isinstance(fields, ImagesEditFields) and fields.background == "transparent":
        wanted["background"] = fields.background
    if fields.seed is not None and not takes.seed:
        raise ApiError("unsupported_parameter", f"seed: the editor {editor!r} takes no seed; leave it out", param="seed")
    for name in wanted:
        if name not in takes.parameters:
            known = ", ".join(sorted(takes.parameters)) or "none"
            message = f"{name}: the editor {editor!r} does not take it (it takes: {known}); leave it out"
            raise ApiError("unsupported_parameter", message, param=name)
    if fields.lora is not None and takes.loras is not None and fields.lora not in takes.loras:
        known = ", ".join(sorted(takes.loras)) or "none"
        message = f"lora: the editor {editor!r} has no LoRA {fields.lora!r} (it has: {known}); send one of them, or leave it out"
        raise ApiError("invalid_value", message, param="lora")
    return wanted
