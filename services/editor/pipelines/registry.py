"""The pipeline families by name. A new family is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable

from services.editor.pipelines.base import Pipeline


def _classical() -> Pipeline:
    from services.editor.pipelines.classical import ClassicalPipeline  # noqa: PLC0415 - a family is loaded when chosen

    return ClassicalPipeline()


# Each entry imports its family only when it is chosen: the classical editor must start without torch.
FAMILIES: dict[str, Callable[[], Pipeline]] = {
    "classical": _classical,
}


def load(name: str) -> Pipeline:
    """Build the pipeline family ``name``. Raises ``ValueError`` naming the known families for any other name."""
    try:
        build = FAMILIES[name]
    except KeyError:
        raise ValueError(f"unknown pipeline {name!r}; known: {', '.join(sorted(FAMILIES))}") from None
    return build()
