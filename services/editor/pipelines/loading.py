"""Builds a pipeline by its family's name. Each family is imported only when it is chosen: torch loads for diffusion only."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from services.editor.pipelines.base import Pipeline
from services.editor.pipelines.registry import EMBEDDED, NAMES
from services.editor.pipelines.single_step import SingleStepPipeline
from services.editor.pipelines.tuning import Tuning

_DIFFUSION = "services.editor.pipelines.diffusion.loading"


def load(name: str, model: str | None = None, tuning: Tuning | None = None) -> Pipeline:
    """Build a pipeline.

    Args:
        name: a family, ``auto`` or ``generic``.
        model: a local folder or a hub id; diffusion families need one.
        tuning: how to run it.

    Raises:
        ValueError: when the name is unknown, a model is missing, or the model is of another family.
    """
    if name not in NAMES:
        raise ValueError(f"unknown pipeline {name!r}; known: {', '.join(NAMES)}")
    if name == EMBEDDED:
        if model is not None:
            raise ValueError("the classical editor has no model; leave --model out, or name another pipeline")
        # By name: the embedded editor is built on this package and must not be imported by it.
        return SingleStepPipeline(importlib.import_module("services.embedded.editor").ClassicalPipeline())
    if model is None:
        raise ValueError(f"the pipeline {name} needs --model: a folder, or a model of the hub")
    build: Callable[[str, str, Tuning], Pipeline] = importlib.import_module(_DIFFUSION).build
    return build(name, model, tuning or Tuning())


def follow(name: str, model: str, tuning: Tuning) -> None:
    """Take part in the passes of another process of this worker, until that ends this one.

    Raises:
        ValueError, OSError: as `load`.
        RuntimeError: when a pass fails.
    """
    importlib.import_module(_DIFFUSION).follow(name, model, tuning)
