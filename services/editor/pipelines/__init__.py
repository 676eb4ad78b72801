"""Editing pipelines: one family a module, behind the small protocol in ``base``."""

from __future__ import annotations

from services.editor.pipelines.base import Capabilities, EditJob, EditResult, Pipeline, PipelineBroken, Range
from services.editor.pipelines.registry import FAMILIES, load

__all__ = ["FAMILIES", "Capabilities", "EditJob", "EditResult", "Pipeline", "PipelineBroken", "Range", "load"]
