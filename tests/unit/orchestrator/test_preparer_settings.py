"""Preparers as they are configured: names that fit together, prompts that exist, and defaults by what the makers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.upstreams.registry import PreparerSettings, Registry, read

URL = "http://127.0.0.1:1/v1"
PREPARER = {"url": URL, "model": "m"}


def registry(editor: dict[str, Any], **preparers: Any) -> Registry:
    return Registry.model_validate(
        {"editors": {"e": {"url": URL, **editor}}, "thinkers": {"judge": {"url": URL, "model": "m"}}, "preparers": preparers}
    )


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "system_prompt.txt"
    path.write_text("You rewrite. Nothing stands in braces here.", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("format_", "prepare", "prepared"),
    [
        ("template", None, False),
        ("template", True, True),
        ("qwen-pe-i2i", None, True),
        ("flux3-pup", None, True),
        ("flux3-pup", False, False),
    ],
)
def test_an_editor_is_prepared_where_its_makers_ask_for_it(
    prompt: Path, format_: str, *, prepare: bool | None, prepared: bool
) -> None:
    template = None if format_ == "template" else str(prompt)
    known = registry({"preparer": "p", "prepare": prepare}, p={**PREPARER, "format": format_, "template": template})

    assert known.prepares(known.editors["e"]) is prepared


@pytest.mark.parametrize(("editor", "prepared"), [({}, False), ({"preparer": "thinker"}, False)])
def test_the_sessions_thinker_prepares_when_it_is_asked_to(editor: dict[str, Any], *, prepared: bool) -> None:
    known = registry(editor)

    assert known.prepares(known.editors["e"]) is prepared


@pytest.mark.parametrize(
    ("editor", "preparers", "says"),
    [
        ({"preparer": "q"}, {"p": PREPARER}, "editors.e.preparer is 'q'; name one of EDITTHINKER_PREPARERS (p), or thinker"),
        ({"prepare": True}, {}, "editors.e.prepare: it has no preparer"),
        ({}, {"judge": PREPARER}, "preparers.judge: a thinker has this name"),
        ({}, {"thinker": PREPARER}, "preparers.thinker: a thinker has this name"),
        ({}, {"p": {**PREPARER, "format": "qwen-pe-i2i"}}, "needs template: a file with the system prompt"),
        ({}, {"p": {**PREPARER, "template": "/nowhere.txt"}}, "the template cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(editor: dict[str, Any], preparers: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        registry(editor, **preparers)

    assert says in str(caught.value)


def test_a_template_without_the_instruction_or_with_marks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "template.txt"
    for text, says in (("Rewrite!", "original_instruction"), ("<image><image>{original_instruction}", "no <image> marks")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValidationError) as caught:
            PreparerSettings.model_validate({**PREPARER, "template": str(path)})
        assert says in str(caught.value)


def test_the_keys_of_preparers_are_kept_out_of_logs() -> None:
    assert registry({}, p={**PREPARER, "api_key": "secret-of-p"}).keys() == ["secret-of-p"]


def test_preparers_may_be_in_the_registry_file(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_text(f'[preparers.p]\nurl = "{URL}"\nmodel = "m"\n', encoding="utf-8")

    assert read(path) == {"preparers": {"p": {"url": URL, "model": "m"}}}
