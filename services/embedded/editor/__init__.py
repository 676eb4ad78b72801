"""The embedded editor: named operations carried out by classical image processing, and the rest refused.

classical_pipeline.py   read the instruction, refuse or apply, report
drawing.py              text and borders
"""

from __future__ import annotations

from services.embedded.editor.classical_pipeline import ClassicalPipeline

__all__ = ["ClassicalPipeline"]
