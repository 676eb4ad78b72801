"""A self-contained HTML page about a session: every picture, score, instruction and critique. No JavaScript."""

from editthinker.report.page import render
from editthinker.report.pictures import Pictures, collect

__all__ = ["Pictures", "collect", "render"]
