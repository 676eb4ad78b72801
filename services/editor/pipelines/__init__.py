"""Editing pipelines: one module a family, behind the protocol in ``base``."""

from __future__ import annotations

from services.editor.pipelines.base import (
    Capabilities,
    Edit,
    EditJob,
    EditResult,
    LoraChoice,
    OutOfMemoryError,
    Pipeline,
    PipelineBrokenError,
    PipelineError,
    Range,
    SingleStepFamily,
    SpeedReport,
)
from services.editor.pipelines.loading import follow, load
from services.editor.pipelines.registry import NAMES
from services.editor.pipelines.single_step import SingleStepPipeline
from services.editor.pipelines.tuning import LoraModule, Tuning

__all__ = [
    "NAMES",
    "Capabilities",
    "Edit",
    "EditJob",
    "EditResult",
    "LoraChoice",
    "LoraModule",
    "OutOfMemoryError",
    "Pipeline",
    "PipelineBrokenError",
    "PipelineError",
    "Range",
    "SingleStepFamily",
    "SingleStepPipeline",
    "SpeedReport",
    "Tuning",
    "follow",
    "load",
]
