"""RISEBench: a JSON list of items and folders of pictures.

Read for PhoenixZ810/RISEBench at 5f22651 (2026-05-18) and the dataset PhoenixZ/RISEBench. Results are
``<arm>/images/<category>/<index>.png``: ``--output`` of ``gpt_eval.py`` is an arm's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from editthinker.client import ImageFormat
from evaluation.datasets.reading import Row, list_in, objects_in_list, plain_name
from evaluation.items import DatasetError, Item, PictureSource, unique

CATEGORIES: Final = ("temporal_reasoning", "causal_reasoning", "spatial_reasoning", "logical_reasoning")
_LISTS: Final = ("datav2_total_w_subtask.json", "data_total.json")
_FLAGS: Final = ("consistency_free", "reasoning_img")


class RiseBench:
    """RISEBench in a folder.

    Args:
        path: the folder of the pictures with the list in it, or the list.

    Raises:
        DatasetError: when it cannot be read.
    """

    name = "risebench"
    version = "5f22651"
    format: ImageFormat = "png"

    def __init__(self, path: Path) -> None:
        listed = list_in(path, _LISTS)
        root = listed.parent
        self.options: Mapping[str, Any] = {"path": str(path.resolve())}
        rows = objects_in_list(listed)
        # The official script asks whether the column exists, which pandas adds to every row as soon as one has it.
        bare = any("reasoning_wo_ins" in row.values for row in rows)
        self.items = unique([_item(row, root, bare=bare) for row in rows], listed)

    def output(self, item: Item, arm: str) -> Path:
        """``<arm>/images/<category>/<index>.png``."""
        return Path(arm, "images", item.group, f"{item.id}.png")

    def companions(self, item: Item, arm: str) -> Mapping[Path, PictureSource]:  # noqa: ARG002 - the protocol's signature
        """None."""
        return {}


def _item(row: Row, root: Path, *, bare: bool) -> Item:
    category = row.text("category")
    if category not in CATEGORIES:
        message = f"{row.where}: category {category!r} is none of {', '.join(CATEGORIES)}"
        raise DatasetError(message)
    right = row.picture(root, "reference_img") if row.optional("reference_img") else None
    # Where any value counts as set, as the official script's `not pd.isna(...)` has it: false counts, too.
    flags: dict[str, Any] = {name: row.values.get(name) is not None for name in _FLAGS}
    return Item(
        id=plain_name(row.text("index"), row.where),
        instruction=row.text("instruction"),
        sources=(row.picture(root, "image"),),
        group=category,
        subgroup=row.optional("subtask"),
        reference=row.optional("reference", "reference_txt"),
        reference_picture=right,
        extra=flags | {"reasoning_wo_ins": bare, "answer": row.optional("reference_txt")},
    )
