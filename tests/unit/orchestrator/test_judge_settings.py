"""Judges as they are configured: what is refused at the start, and what a request may name."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from orchestrator.api.fields import Deadlines, SessionFields, Sources, check, first_event
from orchestrator.loop.events import Choosing, ImageRef
from orchestrator.ports.collaborators import Catalogue, EditorCapabilities
from orchestrator.settings import Settings
from orchestrator.upstreams.judges import MAKERS
from orchestrator.upstreams.registry import JudgeFormatName
from services.errors import ApiError

EDITORS = {"e": {"url": "http://e/v1"}}
THINKERS = {"t": {"url": "http://t/v1", "model": "t"}}
JUDGE: dict[str, Any] = {"url": "http://j/v1", "model": "j"}
DEADLINES = Deadlines(60, 60, 60)
IMAGE = ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)


def settings(judges: dict[str, Any], **more: Any) -> Settings:
    return Settings.model_validate({"editors": EDITORS, "thinkers": THINKERS, "judges": judges, **more})


def test_every_format_has_a_client() -> None:
    literals = get_args(JudgeFormatName)
    names = {name for literal in literals for name in (get_args(literal) or (literal,))}

    assert names == MAKERS.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_can_be_configured(name: str) -> None:
    assert settings({"j": {**JUDGE, "format": name}}).collaborators().judges["j"].format == name


@pytest.mark.parametrize(
    ("judges", "more", "complaint"),
    [
        ({"t": JUDGE}, {}, "both a thinker and a judge"),
        ({"j": {"url": "http://j/v1", "format": "pairwise"}}, {}, "needs the server's name for the model"),
        ({"j": {**JUDGE, "fallback": "k"}}, {}, "name another of"),
        ({"j": {**JUDGE, "fallback": "k"}, "k": {**JUDGE, "format": "pairwise"}}, {}, "does not score and compare as j does"),
        ({"j": JUDGE}, {"default_judge": "x"}, r"which is none of \['j', 't'\]"),
        ({"j": {**JUDGE, "format": "digits"}}, {}, "format"),
        ({"j": {**JUDGE, "format": "pairwise", "template": "/nowhere/x.txt"}}, {}, "the template cannot be read"),
    ],
)
def test_a_judge_that_cannot_work_is_refused_at_the_start(judges: dict[str, Any], more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        settings(judges, **more)


def test_an_http_judge_needs_no_model() -> None:
    assert settings({"j": {"url": "http://j/v1", "format": "http"}}).judges["j"].scores


CATALOGUE = Catalogue(
    {"e": EditorCapabilities(frozenset(), mask=False)},
    ("t", "u"),
    by_checklist=frozenset({"u"}),
    choosing={"t": Choosing(noise=1, weight=1, confirmations=2), "j": Choosing(noise=2, weight=1, confirmations=2)},
    judges=("j", "pairs"),
    comparing=frozenset({"pairs"}),
    not_scoring=frozenset({"pairs"}),
    thinker_images={"pairs": 2},
    unfit={"j": ("black",)},
)


def created(**fields: Any) -> Any:
    given = SessionFields.model_validate({"prompt": "x", **fields})
    return first_event(given, Sources(IMAGE), CATALOGUE, DEADLINES, now=1.0, seed=1)


def test_the_noise_is_the_scorers_and_comparing_is_the_judges() -> None:
    own, pairs, alone = created(judge="j"), created(judge="pairs"), created()

    assert (own.judge, own.scorer, own.version, own.choosing.noise, own.choosing.compares) == ("j", "j", 4, 2, False)
    assert (pairs.judge, pairs.scorer, pairs.choosing.noise, pairs.choosing.compares) == ("pairs", "t", 1, True)
    assert (alone.judge, alone.scorer, alone.version, alone.choosing.compares) == (None, "t", 3, False)


def test_the_checklist_is_the_scorers() -> None:
    assert created(judge="u").checklist and not created(thinker="u", judge="t").checklist


def refusal(**fields: Any) -> ApiError:
    given = SessionFields.model_validate({"prompt": "x", **fields})
    with pytest.raises(ApiError) as caught:
        check(given, CATALOGUE, DEADLINES, has_mask=False)
    return caught.value


def test_a_judge_that_failed_its_check_is_refused() -> None:
    error = refusal(judge="j")

    assert (error.code, error.param) == ("judge_unfit", "judge")
    assert "black" in error.message


def test_a_comparison_shows_one_picture_more_than_a_critique() -> None:
    error = refusal(judge="pairs")

    assert (error.code, error.param) == ("invalid_value", "image")
    assert "a comparison of these would hold 3" in error.message
