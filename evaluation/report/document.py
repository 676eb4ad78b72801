"""What the pages about a run share: their style, and their head with the verdict."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from editthinker.report.document import document
from editthinker.report.markup import escape


def scrolling(label: str, table: str) -> str:
    """A table that scrolls sideways on a narrow screen, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{label}">{table}</div>\n'


def page(folder: Path, title: str, lead: str, content: str) -> str:
    """A page about a run.

    Args:
        folder: of the run.
        title: as text.
        lead, content: as HTML.
    """
    head = (
        f'<header>\n<p class="eyebrow">EditThinker evaluation <code>{escape(folder.name)}</code></p>\n'
        f'<h1>{escape(title)}</h1>\n<p class="lead">{lead}</p>\n</header>\n'
    )
    style = files("evaluation.report").joinpath("style.css").read_text("utf-8")
    return document(escape(title), head + content, style)
