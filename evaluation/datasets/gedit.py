"""GEdit-Bench v1: parquet files as `datasets` downloads them, with the pictures inside.

Read for stepfun-ai/Step1X-Edit at 570eba6 and the dataset stepfun-ai/GEdit-Bench. Results are
``<arm>/fullset/<task>/<language>/<key>.png`` with ``<key>_SRCIMG.png``: ``--save_path`` of ``test_gedit_score.py`` is the folder
of the arms and ``--model_name`` an arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from editthinker.client import ImageFormat
from evaluation.datasets.reading import ParquetPicture, Row, parquet_columns, parquet_files, parquet_rows, plain_name
from evaluation.items import DatasetError, Item, PictureSource, unique

GROUPS: Final = (
    *("background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change"),
    *("subject-add", "subject-remove", "subject-replace", "text_change", "tone_transfer"),
)
_PICTURES: Final = ("input_image_raw", "input_image")


class GEdit:
    """GEdit-Bench in a folder.

    Args:
        path: a parquet file, or a folder with those of the dataset.
        language: ``en``, ``cn`` or ``all``. The paper reports ``en``.

    Raises:
        DatasetError: when it cannot be read.
    """

    name = "gedit"
    version = "570eba6"
    format: ImageFormat = "png"

    def __init__(self, path: Path, language: str = "en") -> None:
        self.options: Mapping[str, Any] = {"path": str(path.resolve()), "language": language}
        items = []
        for file in parquet_files(path):
            column = next((name for name in _PICTURES if name in parquet_columns(file)), None)
            if column is None:
                message = f"{file}: neither the column input_image_raw nor input_image is there"
                raise DatasetError(message)
            rows = parquet_rows(file, without=frozenset(_PICTURES))
            items += [_item(row, ParquetPicture(file, number, column)) for number, row in enumerate(rows)]
        wanted = [item for item in items if language in {"all", item.subgroup}]
        self.items = unique(wanted, path)

    def output(self, item: Item, arm: str) -> Path:
        """``<arm>/fullset/<task>/<language>/<key>.png``."""
        return Path(arm, "fullset", item.group, item.subgroup, f"{item.extra['key']}.png")

    def companions(self, item: Item, arm: str) -> Mapping[Path, PictureSource]:
        """The source, as ``<key>_SRCIMG.png``."""
        return {self.output(item, arm).with_name(f"{item.extra['key']}_SRCIMG.png"): item.sources[0]}


def _item(row: Row, picture: ParquetPicture) -> Item:
    group, language = row.text("task_type"), row.text("instruction_language")
    if group not in GROUPS:
        message = f"{row.where}: task_type {group!r} is none of the {len(GROUPS)} groups"
        raise DatasetError(message)
    key = plain_name(row.text("key"), row.where)
    return Item(
        # The same key occurs in both languages.
        id=f"{key}.{plain_name(language, row.where)}",
        instruction=row.text("instruction"),
        sources=(picture,),
        group=group,
        subgroup=language,
        extra={"key": key, "intersection": bool(row.values.get("Intersection_exist"))},
    )
