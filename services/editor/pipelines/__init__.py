"""Editing pipelines: one family a module, behind the small protocol in ``base``."""

from __future__ import annotations

from services.editor.pipelines.base import (
    Capabilities,
    Edit,
    EditJob,
    EditResult,
    OutOfMemory,
    Pipeline,
    PipelineBroken,
    PipelineFault,
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
    "OutOfMemory",
    "Pipeline",
    "PipelineBroken",
    "PipelineFault",
    "Range",
    "Tuning",
    "Whole",
    "load",
]
