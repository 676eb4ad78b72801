"""The embedded editor: English instructions carried out by classical image processing.

``parse`` reads text into a ``Plan`` (no image code); ``pipeline`` carries a plan out on pixels in CIELAB and linear light.
"""

from __future__ import annotations

from services.embedded.editor.classical_pipeline import ClassicalPipeline
from services.embedded.editor.parser import parse
from services.embedded.editor.plan import Operation, Plan

__all__ = ["ClassicalPipeline", "Operation", "Plan", "parse"]
