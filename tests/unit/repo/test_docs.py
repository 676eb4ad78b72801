"""The docs name only what exists, and document every setting, metric, route, event and finish reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic_settings import BaseSettings

from orchestrator.api import events, export, health, images, preferences, provenance, sessions, shares, training, webhooks
from orchestrator.loop import events as ev
from orchestrator.settings import Settings
from services.editor.pipelines import NAMES
from services.editor.settings import Settings as EditorSettings
from services.errors import TABLE
from services.thinker.settings import Settings as ThinkerSettings

ROOT = Path(__file__).parents[3]
PACKAGES = ("editthinker", "evaluation", "orchestrator", "services", "training")
SOURCES = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
#: Pages about the code as it is now; the changelog and the decisions also name what is gone.
CURRENT = [page for page in PAGES if page != "CHANGELOG.md" and not page.startswith("docs/decisions/")]
FOLDERS = "orchestrator|services|editthinker|benchmarks|deploy|tests|examples|docs"
PREFIXES: dict[str, type[BaseSettings]] = {
    "EDITTHINKER_": Settings,
    "EDITTHINKER_EDITOR_": EditorSettings,
    "EDITTHINKER_THINKER_": ThinkerSettings,
}


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def without_code_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from a page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_code_blocks(page.read_text("utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def test_the_index_lists_every_page() -> None:
    index = read("docs/README.md")

    pages = [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md"]
    assert len(pages) > 10
    assert [page for page in pages if f"({page})" not in index] == []


def test_the_tour_names_many_files() -> None:
    assert len(re.findall(rf"`({FOLDERS})/[\w./-]+`", read("docs/tour.md"))) > 20


@pytest.mark.parametrize("page", CURRENT)
def test_paths_named_in_a_page_exist(page: str) -> None:
    paths = re.findall(rf"(?<![\w./])((?:{FOLDERS})/[\w./-]*\w)", without_code_blocks(read(page)))
    images = re.findall(r"image: (editthinker/[\w-]+)", read("docker-compose.yml"))

    assert [path for path in paths if path not in images and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_and_their_anchors_resolve(page: str) -> None:
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", without_code_blocks(read(page))):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", CURRENT)
def test_settings_named_in_a_page_exist(page: str) -> None:
    """A variable is a field of a settings class, or is read or set somewhere outside the docs."""
    fields = {prefix + field.upper() for prefix, kind in PREFIXES.items() for field in kind.model_fields}
    elsewhere = [path for folder in ("editthinker", "services", "deploy", "tests") for path in (ROOT / folder).rglob("*")]
    texts = [read("Makefile"), *(path.read_text("utf-8") for path in elsewhere if path.suffix in {".py", ".sh", ".yaml"})]
    named = set(re.findall(r"\bEDITTHINKER_[A-Z0-9_]*[A-Z0-9]\b", read(page)))

    assert [name for name in sorted(named - fields) if not any(name in text for text in texts)] == []


def test_every_setting_is_documented() -> None:
    text = read("docs/operations.md")

    assert [name for name in Settings.model_fields if f"EDITTHINKER_{name.upper()}" not in text] == []


def test_every_setting_and_family_of_an_editor_is_documented() -> None:
    text = read("docs/editors.md")

    assert [name for name in EditorSettings.model_fields if f"`{name.upper()}`" not in text] == []
    assert [name for name in NAMES if f"`{name}`" not in text and f"--pipeline {name}" not in text] == []


def test_every_metric_of_an_editor_is_documented() -> None:
    text, source = read("docs/editors.md"), read("services/editor/metrics.py")
    names = re.findall(r'"editthinker_editor_(\w+)"', source) + re.findall(r'^            \("(\w+)", ', source, re.MULTILINE)

    assert len(names) > 8
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_route_and_event_is_documented() -> None:
    text = read("docs/api.md")
    endings = {"edits", "sessions", "events", "image", "source", "cancel", "feedback", "export", "models"}
    endings |= {"health", "healthz", "readyz", "metrics", "webhooks", "test", "rotate_secret", "deliveries", "references", "mask"}
    endings |= {"answer", "preview", "preferences", "provenance", "shares", "training", "critiques"}
    for router in (
        images.router,
        sessions.router,
        shares.router,
        events.router,
        export.router,
        preferences.router,
        training.router,
        webhooks.router,
        provenance.router,
        health.router,
    ):
        for route in router.routes:
            ending = re.sub(r"/\{[a-z_]+\}$", "", getattr(route, "path", "")).split("/v1/")[-1].split("/")[-1]
            assert ending in endings
            assert ending in text
    union = get_args(get_args(ev.Event)[0])
    names = [kind.model_fields["type"].default for kind in union]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_finish_reason_is_documented() -> None:
    text = read("docs/api.md")

    assert [reason for reason in get_args(ev.FinishReason) if f"`{reason}`" not in text] == []


def test_every_error_code_that_is_raised_has_a_status() -> None:
    for path in SOURCES:
        for code in re.findall(r"(?:ApiError|EditorError|ThinkerError|PortError)\(\s*\"([a-z_]+)\"", path.read_text("utf-8")):
            assert code in TABLE, (path, code)
