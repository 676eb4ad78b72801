"""The docs say what is there, and the code keeps to its own measures."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from orchestrator.api import events, export, health, images, sessions, webhooks
from orchestrator.loop import events as ev
from orchestrator.settings import Settings
from services.editor.pipelines import NAMES
from services.editor.settings import Settings as EditorSettings
from services.errors import TABLE

ROOT = Path(__file__).parents[3]
SOURCES = [path for folder in ("editthinker", "orchestrator", "services") for path in (ROOT / folder).rglob("*.py")]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_every_path_of_the_tour_exists() -> None:
    """A reader who follows it never meets a missing file."""
    paths = re.findall(r"`((?:orchestrator|services|editthinker)/[\w./-]+)`", read("docs/tour.md"))

    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
def test_relative_links_lead_somewhere(page: str) -> None:
    """In every page."""
    for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", read(page)):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_setting_is_documented() -> None:
    """By the name of its environment variable."""
    text = read("docs/operations.md")

    assert [name for name in Settings.model_fields if f"EDITTHINKER_{name.upper()}" not in text] == []


def test_every_setting_and_family_of_an_editor_is_documented() -> None:
    """By the variable without its prefix, and by name."""
    text = read("docs/editors.md")

    assert [name for name in EditorSettings.model_fields if f"`{name.upper()}`" not in text] == []
    assert [name for name in NAMES if f"`{name}`" not in text and f"--pipeline {name}" not in text] == []


def test_every_metric_of_an_editor_is_documented() -> None:
    """By its name without the prefix."""
    text, source = read("docs/editors.md"), read("services/editor/metrics.py")
    names = re.findall(r'"editthinker_editor_(\w+)"', source) + re.findall(r'^            \("(\w+)", ', source, re.MULTILINE)

    assert len(names) > 8
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_route_and_event_is_documented() -> None:
    """In the page on the API."""
    text = read("docs/api.md")
    endings = {"edits", "sessions", "events", "image", "source", "cancel", "feedback", "export", "models"}
    endings |= {"healthz", "readyz", "metrics", "webhooks", "test", "rotate_secret", "deliveries"}
    for router in (images.router, sessions.router, events.router, export.router, webhooks.router, health.router):
        for route in router.routes:
            ending = re.sub(r"/\{[a-z_]+\}$", "", getattr(route, "path", "")).split("/v1/")[-1].split("/")[-1]
            assert ending in endings
            assert ending in text
    union = get_args(get_args(ev.Event)[0])
    names = [kind.model_fields["type"].default for kind in union]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_finish_reason_is_documented() -> None:
    """In the page on the API."""
    text = read("docs/api.md")

    assert [reason for reason in get_args(ev.FinishReason) if f"`{reason}`" not in text] == []


def test_every_code_that_is_raised_stands_in_the_table() -> None:
    """So that none fails when its status is looked up."""
    for path in SOURCES:
        for code in re.findall(r"(?:ApiError|EditorError|ThinkerError|PortError)\(\s*\"([a-z_]+)\"", path.read_text("utf-8")):
            assert code in TABLE, (path, code)


def test_files_and_functions_stay_small() -> None:
    """400 lines a file, 50 a function."""
    for path in SOURCES:
        text = path.read_text("utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 50, (path, node.name)
