"""A self-contained HTML page about a session: every picture, score, instruction and critique.

It loads nothing and sends nothing. Its one script compares and zooms the pictures; without it they stand next to each other.
"""

from editthinker.report.page import render
from editthinker.report.pictures import Pictures, collect

__all__ = ["Pictures", "collect", "render"]
