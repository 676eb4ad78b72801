"""The embedded editor: English instructions carried out by classical image processing.

    text       tokens.py (vocabulary, colour_names) -> clauses.py -> parser.py (sliders, special_clauses, clause_regions)
    plan       plan.py: operations with amounts and regions, as plain values
    pixels     picture.py, masks.py: CIELAB in float32 and masks; colour_spaces.py, filters.py
    operations tone.py, colour.py, effects.py on pixels; geometry.py, drawing.py on Pillow images
    pipeline   classical_pipeline.py: parse, apply, report

The parser imports no image code.
"""

from __future__ import annotations

from services.embedded.editor.classical_pipeline import ClassicalPipeline
from services.embedded.editor.parser import parse
from services.embedded.editor.plan import Operation, Plan

__all__ = ["ClassicalPipeline", "Operation", "Plan", "parse"]
