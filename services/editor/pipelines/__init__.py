"""Editing pipelines: one family a module, behind the small protocol in ``base``."""

from __future__ import annotations

from services.editor.pipelines.base import (
    Capabilities,
    Edit,
    EditJob,
    EditResult,
    OutOfMemoryError,
    Pipeline,
    PipelineBrokenError,
    PipelineError,
    Range,
    Whole,
)
from services.editor.pipelines.registry import NAMES, Tuning, load
from services.editor.pipelines.whole import OneByOne

__all__ = [
    "NAMES",
    "Capabilities",
    "Edit",
    "EditJob",
    "EditResult",
    "OneByOne",
    "OutOfMemoryError",
    "Pipeline",
    "PipelineBrokenError",
    "PipelineError",
    "Range",
    "Tuning",
    "Whole",
    "load",
]
