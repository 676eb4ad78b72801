"""ImgEdit-Bench, the basic suite: a JSON object of items and folders of pictures.

Read for PKU-YuanGroup/ImgEdit at 547185d (2025-09-07): ``basic_edit.json`` next to the pictures, or EditThinker's repackaged
``singleturn.json``. Results are ``<arm>/<key>.png``, the ``--result_img_folder`` of ``basic_bench.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from editthinker.client import ImageFormat
from evaluation.datasets.reading import list_in, objects_by_key, plain_name
from evaluation.items import Item, PictureSource, unique

LISTS: Final = ("basic_edit.json", "singleturn.json")


class ImgEdit:
    """ImgEdit-Bench in a folder.

    Args:
        path: the folder of the pictures with the list in it, or the list.

    Raises:
        DatasetError: when it cannot be read.
    """

    name = "imgedit"
    version = "547185d"
    format: ImageFormat = "png"

    def __init__(self, path: Path) -> None:
        listed = list_in(path, LISTS)
        root = listed.parent
        self.options: Mapping[str, Any] = {"path": str(path.resolve())}
        items = [
            Item(
                id=plain_name(key, row.where),
                instruction=row.text("prompt"),
                sources=(row.picture(root, "id"),),
                group=row.text("edit_type"),
            )
            for key, row in objects_by_key(listed).items()
        ]
        self.items = unique(items, listed)

    def output(self, item: Item, arm: str) -> Path:
        """``<arm>/<key>.png``."""
        return Path(arm, f"{item.id}.png")

    def companions(self, item: Item, arm: str) -> Mapping[Path, PictureSource]:  # noqa: ARG002 - the protocol's signature
        """None."""
        return {}
