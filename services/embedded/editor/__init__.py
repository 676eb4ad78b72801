"""The embedded editor: named operations carried out by classical image processing.

picture.py                     CIELAB in float32, and the masks that confine operations
tone.py, colour.py, effects.py operations on pixels
drawing.py                     text and borders
classical_pipeline.py          read the instruction, refuse or apply, report
"""

from __future__ import annotations

from services.embedded.editor.classical_pipeline import ClassicalPipeline

__all__ = ["ClassicalPipeline"]
