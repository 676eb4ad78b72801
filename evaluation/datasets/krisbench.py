"""KRIS-Bench: a folder for each category, with its annotations and pictures.

Read for mercurystraw/Kris_Bench at 7f7a944. Its scripts read the instruction as ``instruction``, where the published annotations
have ``ins_en``; both are read here. Results are ``results/<arm>/<category>/<id>.jpg``: run the scripts in the folder above
``results``, with the benchmark as ``KRIS_Bench``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from editthinker.client import ImageFormat
from evaluation.datasets.reading import objects_by_key, plain_name
from evaluation.items import DatasetError, Item, PictureSource, unique

DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Attribute Perception": ("count_change", "color_change", "size_adjustment", "part_completion", "anomaly_correction"),
    "Spatial Perception": ("viewpoint_change", "position_movement"),
    "Temporal Prediction": ("temporal_prediction",),
    "Social Science": ("humanities", "practical_knowledge"),
    "Natural Science": ("biology", "chemistry", "geography", "medicine", "mathematics", "physics"),
    "Logical Reasoning": ("abstract_reasoning", "rule-based_reasoning"),
    "Instruction Decomposition": ("multi-element_composition", "multi-instruction_execution"),
}
"""The categories of each dimension."""
KNOWLEDGE: Final[Mapping[str, tuple[str, ...]]] = {
    "Factual Knowledge": ("Attribute Perception", "Spatial Perception", "Temporal Prediction"),
    "Conceptual Knowledge": ("Social Science", "Natural Science"),
    "Procedural Knowledge": ("Logical Reasoning", "Instruction Decomposition"),
}
"""The dimensions of each type of knowledge."""
PLAUSIBLE: Final = frozenset({"Social Science", "Natural Science", "Logical Reasoning"})
"""The dimensions with a score for the plausibility of knowledge."""
CATEGORIES: Final[Mapping[str, str]] = {name: dimension for dimension, names in DIMENSIONS.items() for name in names}
"""The dimension of each category."""


class KrisBench:
    """KRIS-Bench in a folder.

    Args:
        path: the folder of the categories.
        first_source_only: send the first picture of items that have several, as EditThinker's scripts do.

    Raises:
        DatasetError: when it cannot be read.
    """

    name = "krisbench"
    version = "7f7a944"
    format: ImageFormat = "jpeg"

    def __init__(self, path: Path, *, first_source_only: bool = False) -> None:
        self.options: Mapping[str, Any] = {"path": str(path.resolve()), "first_source_only": first_source_only}
        folders = sorted(each.parent for each in path.glob("*/annotation.json"))
        if not folders:
            message = f"{path}: no folder in it has an annotation.json"
            raise DatasetError(message)
        items = [item for folder in folders for item in _items(folder, first_source_only=first_source_only)]
        self.items = unique(items, path)

    def output(self, item: Item, arm: str) -> Path:
        """``results/<arm>/<category>/<id>.jpg``."""
        return Path("results", arm, item.group, f"{item.extra['key']}.jpg")

    def companions(self, item: Item, arm: str) -> Mapping[Path, PictureSource]:  # noqa: ARG002 - the protocol's signature
        """None."""
        return {}


def _items(folder: Path, *, first_source_only: bool) -> Iterator[Item]:
    for key, row in objects_by_key(folder / "annotation.json").items():
        pictures = row.pictures(folder, "ori_img")
        right = row.optional("gt_img")
        yield Item(
            id=f"{folder.name}/{plain_name(key, row.where)}",
            instruction=row.text("ins_en", "instruction"),
            sources=pictures[:1] if first_source_only else pictures,
            group=folder.name,
            subgroup=CATEGORIES.get(folder.name, ""),
            reference=row.optional("explain_en", "explain"),
            reference_picture=row.file(folder, right, "gt_img") if right else None,
            extra={"key": key},
        )
