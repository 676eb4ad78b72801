"""What a caller may ask of a session: the defaults of each strategy, and a refusal that names field and fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.fields import (
    MAX_CANDIDATES,
    MAX_TURNS,
    Deadlines,
    ImagesEditFields,
    SessionFields,
    Sources,
    check,
    first_event,
)
from orchestrator.loop import events as ev
from orchestrator.ports.collaborators import Catalogue, EditorCapabilities
from services.errors import TABLE, ApiError
from services.protocol.images_api import validate

SOURCE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=640, height=480)
MASK = SOURCE.model_copy(update={"sha256": "1" * 64})
PARAMETERS = frozenset({"negative_prompt", "num_inference_steps", "guidance_scale", "size"})
CATALOGUE = Catalogue(
    {"first": EditorCapabilities(frozenset(), mask=False), "able": EditorCapabilities(PARAMETERS, mask=True)},
    ("judge", "expert"),
)
NONE = frozenset[str]()
SEVERAL = Catalogue(
    {
        "one": EditorCapabilities(NONE, mask=False),
        "three": EditorCapabilities(NONE, mask=False, images=3),
        "masked": EditorCapabilities(NONE, mask=True, images=4),
        "backed": EditorCapabilities(NONE, mask=True, images=4, fallback="three"),
        "silent": EditorCapabilities(NONE, mask=None, images=None),
    },
    ("judge", "narrow"),
    thinker_images={"narrow": 3},
)
DEADLINES = Deadlines(600.0, 86_400.0, 604_800.0)
Fields = ImagesEditFields | SessionFields


def event(kind: type[Fields] = ImagesEditFields, /, *, source: ev.ImageRef = SOURCE, **given_: Any) -> ev.SessionCreated:
    fields = validate(kind, {"prompt": "make it golden", **given_})
    check(fields, CATALOGUE, DEADLINES, has_mask=False)
    return first_event(fields, Sources(source, None), CATALOGUE, DEADLINES, now=1000.0, seed=99)


def refusal(kind: type[Fields] = ImagesEditFields, /, **given_: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        event(kind, **given_)
    assert caught.value.status in {400, 404}
    assert caught.value.param is None or caught.value.param in caught.value.message
    return caught.value


def test_the_defaults() -> None:
    """The first editor and thinker, the paper's loop, thresholds 8 and 8, patience 2, a deadline."""
    created = event()

    assert created == ev.SessionCreated(
        at=1000.0,
        source=SOURCE,
        instruction="make it golden",
        editor="first",
        thinker="judge",
        limits=ev.Limits(max_turns=5, candidates=1, deadline_at=1600.0),
        seed=99,
    )
    assert (created.limits.semantic_threshold, created.limits.quality_threshold, created.limits.patience) == (8.0, 8.0, 2)
    assert event(SessionFields) == created


@pytest.mark.parametrize(
    ("strategy", "n", "shape"),
    [
        ("think", 1, (5, 1)),
        ("think", 5, (5, 1)),
        ("think", 6, (5, 2)),
        ("think", 10, (5, 2)),
        ("think_best_of_n", 1, (5, 2)),
        ("think_best_of_n", 10, (5, 2)),
        ("best_of_n", 1, (1, 4)),
        ("best_of_n", 4, (1, 4)),
        ("best_of_n", 10, (1, 10)),
        ("single", 1, (1, 1)),
        ("single", 7, (1, 7)),
        ("adaptive", 1, (8, 1)),
        ("adaptive", 9, (8, 2)),
    ],
)
def test_the_shape_of_each_strategy(strategy: str, n: int, shape: tuple[int, int]) -> None:
    """Turns and candidates are chosen so that n images come out."""
    limits = event(strategy=strategy, n=n).limits

    assert (limits.max_turns, limits.candidates) == shape


@pytest.mark.parametrize(
    ("given_", "shape"),
    [
        ({"max_turns": 1}, (1, 1)),
        ({"max_turns": 20}, (20, 1)),
        ({"max_turns": 2, "n": 9}, (2, 5)),
        ({"candidates": 16}, (5, 16)),
        ({"candidates": 2, "max_turns": 3, "n": 6}, (3, 2)),
        ({"strategy": "best_of_n", "candidates": 2}, (1, 2)),
        ({"strategy": "best_of_n", "max_turns": 2}, (2, 4)),
        ({"strategy": "single", "max_turns": 1, "candidates": 3, "n": 3}, (1, 3)),
    ],
)
def test_the_callers_shape(given_: dict[str, Any], shape: tuple[int, int]) -> None:
    """What is named is kept, and the rest chosen to fit."""
    limits = event(**given_).limits

    assert (limits.max_turns, limits.candidates) == shape


def test_everything_named_is_kept() -> None:
    """Every field ends in the event, or in the editor's options."""
    created = event(
        SessionFields,
        model="able",
        thinker="expert",
        strategy="think_best_of_n",
        review="each_turn",
        n=3,
        max_turns=4,
        candidates=3,
        semantic_threshold=6.5,
        quality_threshold=0,
        patience=4,
        deadline_s=30,
        budget_edits=8,
        budget_editor_s=12.5,
        seed=0,
        size="512x512",
        negative_prompt="",
        num_inference_steps=20,
        guidance_scale=0,
        user="u",
    )

    assert created.limits == ev.Limits(
        max_turns=4,
        candidates=3,
        semantic_threshold=6.5,
        quality_threshold=0,
        patience=4,
        deadline_at=1030.0,
        budget_edits=8,
        budget_editor_s=12.5,
    )
    assert (created.editor, created.thinker, created.strategy, created.review) == (
        "able",
        "expert",
        "think_best_of_n",
        "each_turn",
    )
    assert (created.results, created.seed, created.user) == (3, 0, "u")
    assert created.editor_options == {"size": "512x512", "negative_prompt": "", "num_inference_steps": 20, "guidance_scale": 0.0}


def test_a_review_has_time() -> None:
    """People need longer than machines, unless the caller says how long."""
    assert event(SessionFields, review="before_finish").limits.deadline_at == 87_400.0
    assert event(SessionFields, review="before_finish", deadline_s=5).limits.deadline_at == 1005.0


@pytest.mark.parametrize("kind", [{}, {"review": "each_turn"}])
def test_a_default_deadline_is_within_the_longest(kind: dict[str, Any]) -> None:
    """A server whose longest deadline is ten seconds takes requests that name none."""
    fields = validate(SessionFields, {"prompt": "x", **kind})
    short = replace(DEADLINES, max_s=10.0)
    check(fields, CATALOGUE, short, has_mask=False)

    assert first_event(fields, Sources(SOURCE, None), CATALOGUE, short, now=1000.0, seed=1).limits.deadline_at == 1010.0


def test_the_mask_is_kept() -> None:
    """It belongs to the session."""
    fields = validate(ImagesEditFields, {"prompt": "x", "model": "able"})
    check(fields, CATALOGUE, DEADLINES, has_mask=True)

    assert first_event(fields, Sources(SOURCE, MASK), CATALOGUE, DEADLINES, now=0.0, seed=1).mask == MASK


def test_a_mask_goes_only_to_editors_that_take_one() -> None:
    """Refused before any picture is decoded."""
    with pytest.raises(ApiError) as caught:
        check(validate(ImagesEditFields, {"prompt": "x"}), CATALOGUE, DEADLINES, has_mask=True)

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "mask")
    assert "'first'" in caught.value.message
    assert caught.value.message.endswith("leave it out, or choose an editor that takes that: model=able")


def pictures_refused(images: int, *, has_mask: bool = False, **fields: Any) -> ApiError:
    asked = validate(ImagesEditFields, {"prompt": "x", **fields})
    with pytest.raises(ApiError) as caught:
        check(asked, SEVERAL, DEADLINES, has_mask=has_mask, images=images)
    return caught.value


def test_more_pictures_than_the_editor_takes_are_refused_with_an_editor_that_takes_them() -> None:
    error = pictures_refused(2)
    assert (error.code, error.status, error.param) == ("invalid_value", 400, "image")
    assert error.message == (
        "image: 2 pictures were sent, and the editor 'one' takes 1 picture; send no more, or choose an editor that takes that: "
        "model=three or masked or backed"
    )
    assert pictures_refused(5).message.endswith("takes 1 picture; send no more")
    assert pictures_refused(3, has_mask=True, model="three").message.endswith(
        "leave it out, or choose an editor that takes that: model=masked"
    )


@pytest.mark.parametrize(("images", "has_mask", "what"), [(4, False, "takes 3 pictures"), (2, True, "takes no mask")])
def test_what_the_fallback_does_not_take_is_refused_too(images: int, what: str, *, has_mask: bool) -> None:
    """It may have to make any of the edits."""
    error = pictures_refused(images, has_mask=has_mask, model="backed")
    assert f"'three', the fallback of the editor 'backed', {what}" in error.message
    assert "model=masked" in error.message and "or backed" not in error.message


def test_while_it_is_not_known_what_an_editor_takes_the_caller_is_asked_to_come_back() -> None:
    for error in (pictures_refused(2, model="silent"), pictures_refused(1, has_mask=True, model="silent")):
        assert (error.code, error.status) == ("not_ready", 503)
    check(validate(ImagesEditFields, {"prompt": "x", "model": "silent"}), SEVERAL, DEADLINES, has_mask=False, images=1)


def test_a_thinker_that_takes_few_pictures_is_named() -> None:
    """A critique holds the candidate and, with a mask, what may change."""
    error = pictures_refused(2, has_mask=True, model="masked", thinker="narrow")
    assert (error.code, error.param) == ("invalid_value", "image")
    assert "'narrow' takes 3 pictures" in error.message and "would hold 4; send 1 fewer" in error.message
    fields = validate(ImagesEditFields, {"prompt": "x", "model": "masked", "thinker": "narrow"})
    check(fields, SEVERAL, DEADLINES, has_mask=False, images=2)


def test_references_are_kept_in_their_order_in_a_log_that_former_versions_do_not_read() -> None:
    """They would continue it without the references."""
    fields = validate(ImagesEditFields, {"prompt": "x", "model": "three"})
    references = tuple(SOURCE.model_copy(update={"sha256": str(number) * 64}) for number in (3, 2))
    with_references = first_event(fields, Sources(SOURCE, None, references), SEVERAL, DEADLINES, now=0.0, seed=1)
    without = first_event(fields, Sources(SOURCE), SEVERAL, DEADLINES, now=0.0, seed=1)

    assert (with_references.references, with_references.version) == (references, 2)
    assert with_references.inputs == (SOURCE, *references)
    assert ev.load(ev.dump(with_references)) == with_references
    assert without.version == 1 and b"references" not in ev.dump(without)


@pytest.mark.parametrize(
    ("given_", "code", "param"),
    [
        ({"model": "third"}, "model_not_found", "model"),
        ({"model": ""}, "model_not_found", "model"),
        ({"model": "judge"}, "model_not_found", "model"),
        ({"thinker": "first"}, "invalid_value", "thinker"),
        ({"strategy": "guess"}, "invalid_value", "strategy"),
        ({"max_turns": 0}, "invalid_value", "max_turns"),
        ({"max_turns": MAX_TURNS + 1}, "invalid_value", "max_turns"),
        ({"max_turns": "1.5"}, "invalid_value", "max_turns"),
        ({"candidates": 0}, "invalid_value", "candidates"),
        ({"candidates": MAX_CANDIDATES + 1}, "invalid_value", "candidates"),
        ({"semantic_threshold": -0.1}, "invalid_value", "semantic_threshold"),
        ({"semantic_threshold": 10.1}, "invalid_value", "semantic_threshold"),
        ({"semantic_threshold": "nan"}, "invalid_value", "semantic_threshold"),
        ({"quality_threshold": "inf"}, "invalid_value", "quality_threshold"),
        ({"patience": 0}, "invalid_value", "patience"),
        ({"deadline_s": 0}, "invalid_value", "deadline_s"),
        ({"deadline_s": -1}, "invalid_value", "deadline_s"),
        ({"deadline_s": "nan"}, "invalid_value", "deadline_s"),
        ({"deadline_s": "inf"}, "invalid_value", "deadline_s"),
        ({"deadline_s": 604_801}, "invalid_value", "deadline_s"),
        ({"budget_edits": 0}, "invalid_value", "budget_edits"),
        ({"budget_edits": 1001}, "invalid_value", "budget_edits"),
        ({"budget_edits": 2, "n": 3}, "invalid_value", "budget_edits"),
        ({"budget_editor_s": 0}, "invalid_value", "budget_editor_s"),
        ({"budget_editor_s": "inf"}, "invalid_value", "budget_editor_s"),
        ({"budget_editor_s": "nan"}, "invalid_value", "budget_editor_s"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"seed": 2**31}, "invalid_value", "seed"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 11}, "invalid_value", "n"),
        ({"n": 6, "candidates": 1}, "invalid_value", "n"),
        ({"n": 2, "max_turns": 1, "candidates": 1}, "invalid_value", "n"),
        ({"n": 5, "strategy": "best_of_n", "candidates": 4}, "invalid_value", "n"),
        ({"strategy": "single", "max_turns": 2}, "invalid_value", "max_turns"),
        ({"strategy": "single", "candidates": 2}, "invalid_value", "candidates"),
        ({"strategy": "single", "candidates": 2, "n": 3}, "invalid_value", "candidates"),
        ({"num_inference_steps": 0}, "invalid_value", "num_inference_steps"),
        ({"guidance_scale": 101}, "invalid_value", "guidance_scale"),
        ({"negative_prompt": "x" * 32_001}, "invalid_value", "negative_prompt"),
        ({"size": "100%"}, "invalid_value", "size"),
        ({"review": "each_turn"}, "unknown_parameter", "review"),
        ({"max_turn": 3}, "unknown_parameter", "max_turn"),
        ({"output_format": "png", "output_compression": 50}, "invalid_value", "output_compression"),
        ({"output_format": "png", "output_compression": 0}, "invalid_value", "output_compression"),
        ({"partial_images": 1}, "invalid_value", "partial_images"),
        ({"stream": True, "response_format": "url"}, "invalid_value", "response_format"),
        ({"output_format": "webp", "size": "20000x100", "model": "able"}, "invalid_value", "output_format"),
    ],
)
def test_what_does_not_fit_is_refused(given_: dict[str, Any], code: str, param: str) -> None:
    """By the field at fault, before anything is done."""
    error = refusal(**given_)

    assert (error.code, error.param) == (code, param)


@pytest.mark.parametrize("name", ["negative_prompt", "num_inference_steps", "guidance_scale", "size"])
def test_what_an_editor_does_not_take_is_refused(name: str) -> None:
    """Never ignored: the message says which editor, and what it takes."""
    value: Any = {"negative_prompt": "", "num_inference_steps": 20, "guidance_scale": 3.5, "size": "512x512"}[name]
    given_: dict[str, Any] = {name: value}
    error = refusal(**given_)

    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert "'first'" in error.message and "it takes: none" in error.message and "leave it out" in error.message
    assert event(model="able", **given_).editor_options == {name: value}


@pytest.mark.parametrize(
    "given_",
    [
        {"output_compression": 100},
        {"output_format": "webp", "output_compression": 0},
        {"output_format": "jpeg", "output_compression": 100},
        {"stream": True, "partial_images": 3},
        {"partial_images": 0},
        {"size": "auto"},
        {"quality": "auto", "background": "auto"},
    ],
)
def test_what_only_sounds_wrong_is_taken(given_: dict[str, Any]) -> None:
    """Neutral values, and combinations that can be honoured."""
    assert event(**given_).editor_options == {}


def test_a_source_too_long_for_the_format_is_refused_at_once() -> None:
    """Not after all the work: WebP ends at 16,383 pixels a side."""
    long = SOURCE.model_copy(update={"width": 1, "height": 20_000})
    with pytest.raises(ApiError) as caught:
        event(source=long, output_format="webp")

    assert (caught.value.code, caught.value.param) == ("invalid_value", "output_format")
    assert event(source=long, output_format="png").source == long


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


asked = st.fixed_dictionaries(
    {
        "prompt": st.just("make it golden"),
        "strategy": st.sampled_from(["think", "single", "best_of_n", "think_best_of_n", "adaptive"]),
        "n": st.integers(1, 10),
        "max_turns": optional(st.integers(1, MAX_TURNS)),
        "candidates": optional(st.integers(1, MAX_CANDIDATES)),
        "patience": st.integers(1, 3),
        "budget_edits": optional(st.integers(1, 30)),
        "deadline_s": optional(st.sampled_from([1.0, 604_800.0, 604_801.0])),
        "model": st.sampled_from([None, "able", "third"]),
        "thinker": st.sampled_from([None, "expert", "third"]),
        "size": st.sampled_from(["auto", "512x512"]),
        "guidance_scale": st.sampled_from([None, 3.0]),
    }
)


@given(given_=asked)
@settings(max_examples=200, deadline=None)
def test_checking_first_refuses_the_same(given_: dict[str, Any]) -> None:
    """What passes the check before the pictures are read passes after; what does not is refused with the same words."""
    fields = validate(SessionFields, given_)

    def outcome(make: Any) -> tuple[str, str] | None:
        try:
            make()
        except ApiError as exc:
            return exc.code, exc.message
        return None

    before = outcome(lambda: check(fields, CATALOGUE, DEADLINES, has_mask=False))
    after = outcome(lambda: first_event(fields, Sources(SOURCE, None), CATALOGUE, DEADLINES, now=0.0, seed=1))
    assert before == after
    assert before is None or before[0] in TABLE


@given(
    given_=st.dictionaries(
        st.sampled_from([*SessionFields.model_fields, "x"]), st.none() | st.integers() | st.floats() | st.text()
    )
)
@settings(max_examples=150, deadline=None)
def test_any_fields_make_an_event_or_our_error(given_: dict[str, Any]) -> None:
    """And what makes an event can be recorded and read again."""
    try:
        created = event(SessionFields, **given_)
    except ApiError as exc:
        code = exc.code
        assert code in TABLE
    else:
        assert ev.load(ev.dump(created)) == created


WITH_LORAS = Catalogue(
    {
        "tells": EditorCapabilities(frozenset({"lora", "lora_scale"}), mask=False, loras=frozenset({"anime", "relight"})),
        "bare": EditorCapabilities(frozenset({"lora"}), mask=False, loras=frozenset()),
        "silent": EditorCapabilities(frozenset({"lora"}), mask=False),
        "without": EditorCapabilities(NONE, mask=False, loras=frozenset({"anime"})),
    },
    ("judge",),
)


@pytest.mark.parametrize("kind", [ImagesEditFields, SessionFields])
def test_a_lora_is_recorded_with_the_session(kind: type[Fields]) -> None:
    """So that every turn, and who reads the log later, has it."""
    for editor, chosen in (("tells", {"lora": "anime", "lora_scale": 0.5}), ("silent", {"lora": "any"})):
        fields = validate(kind, {"prompt": "x", "model": editor, **chosen})
        check(fields, WITH_LORAS, DEADLINES, has_mask=False)
        created = first_event(fields, Sources(SOURCE, None), WITH_LORAS, DEADLINES, now=1000.0, seed=99)
        assert ev.SessionCreated.model_validate_json(created.model_dump_json()).editor_options == chosen


@pytest.mark.parametrize(
    ("chosen", "code", "told"),
    [
        ({"model": "tells", "lora": "other"}, "invalid_value", "has no LoRA 'other' (it has: anime, relight)"),
        ({"model": "bare", "lora": "other"}, "invalid_value", "(it has: none)"),
        ({"model": "without", "lora": "anime"}, "unsupported_parameter", "does not take it"),
        ({"model": "silent", "lora": "/loras/anime.safetensors"}, "invalid_value", "no path or hub id"),
        ({"model": "silent", "lora": "someone/anime"}, "invalid_value", "no path or hub id"),
    ],
)
def test_a_lora_that_the_editor_does_not_have_is_refused(chosen: dict[str, Any], code: str, told: str) -> None:
    """A path is refused before anybody looks for it."""
    with pytest.raises(ApiError) as caught:
        check(validate(ImagesEditFields, {"prompt": "x", **chosen}), WITH_LORAS, DEADLINES, has_mask=False)
    assert (caught.value.code, caught.value.param) == (code, "lora")
    assert told in caught.value.message


PREPARED = Catalogue(
    {
        "plain": EditorCapabilities(NONE, mask=False),
        "asks": EditorCapabilities(NONE, mask=False, preparer="pup", prepare=True),
        "may": EditorCapabilities(NONE, mask=False, preparer="thinker"),
    },
    ("judge", "expert"),
)


@pytest.mark.parametrize(
    ("model", "prepare", "preparer"),
    [
        ("plain", None, None),
        ("plain", False, None),
        ("asks", None, "pup"),
        ("asks", True, "pup"),
        ("asks", False, None),
        ("may", None, None),
        ("may", True, "expert"),
    ],
)
def test_an_instruction_is_rewritten_as_the_editor_is_set_or_as_the_request_says(
    model: str, *, prepare: bool | None, preparer: str | None
) -> None:
    """By the session's own thinker where the editor's settings say so."""
    fields = validate(SessionFields, {"prompt": "golden", "model": model, "thinker": "expert", "prepare": prepare})
    check(fields, PREPARED, DEADLINES, has_mask=False)
    created = first_event(fields, Sources(SOURCE, None), PREPARED, DEADLINES, now=0.0, seed=1)

    assert (created.preparer, created.version, created.instruction) == (preparer, 3 if preparer else 1, "golden")


def test_an_editor_without_a_preparer_is_named() -> None:
    fields = validate(SessionFields, {"prompt": "golden", "model": "plain", "prepare": "true"})
    with pytest.raises(ApiError) as caught:
        check(fields, PREPARED, DEADLINES, has_mask=False)

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "prepare")
    assert "the editor 'plain' has no preparer" in caught.value.message


DRAFTING = Catalogue(
    {
        "drafts": EditorCapabilities(NONE, mask=False, draft=True),
        "plain": EditorCapabilities(NONE, mask=False),
        "silent": EditorCapabilities(NONE, mask=False, draft=None),
    },
    ("judge",),
)


def drafting(kind: type[Fields] = ImagesEditFields, /, **given_: Any) -> ev.SessionCreated:
    fields = validate(kind, {"prompt": "x", "draft": True, **given_})
    check(fields, DRAFTING, DEADLINES, has_mask=False)
    return first_event(fields, Sources(SOURCE, None), DRAFTING, DEADLINES, now=1000.0, seed=99)


@pytest.mark.parametrize("kind", [ImagesEditFields, SessionFields])
def test_drafts_are_recorded_with_the_session_in_a_log_that_earlier_versions_leave_alone(kind: type[Fields]) -> None:
    created = ev.SessionCreated.model_validate_json(drafting(kind).model_dump_json())
    assert (created.draft, created.version) == (True, 4)

    without = drafting(kind, draft=False, model="plain")
    assert (without.draft, without.version) == (False, 1)
    assert "draft" not in without.model_dump()


@pytest.mark.parametrize(
    ("given_", "code", "told"),
    [
        ({"model": "plain"}, "unsupported_parameter", "makes no drafts"),
        ({"model": "silent"}, "not_ready", "not known yet"),
        ({"strategy": "single"}, "unsupported_parameter", "makes one edit"),
        ({"n": 2}, "invalid_value", "send n=1"),
        ({"budget_edits": 1}, "invalid_value", "raise budget_edits"),
    ],
)
def test_drafts_that_could_not_be_made_or_would_be_of_no_use_are_refused(given_: dict[str, Any], code: str, told: str) -> None:
    with pytest.raises(ApiError) as caught:
        drafting(**given_)
    assert (caught.value.code, caught.value.param) == (code, "draft")
    assert told in caught.value.message
