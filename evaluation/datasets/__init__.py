"""The datasets that are read: benchmarks in their own layouts, and pictures of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evaluation.datasets.gedit import GEdit
from evaluation.datasets.imgedit import ImgEdit
from evaluation.datasets.krisbench import KrisBench
from evaluation.datasets.own import Own
from evaluation.datasets.risebench import RiseBench
from evaluation.items import Dataset, DatasetError

KINDS: Final = ("imgedit", "gedit", "risebench", "krisbench", "own")


def load(
    kind: str, path: Path, *, language: str = "en", instruction: str | None = None, first_source_only: bool = False
) -> Dataset:
    """A dataset of a kind in a folder.

    Args:
        language: of GEdit-Bench: ``en``, ``cn`` or ``all``.
        instruction: for a folder of pictures.
        first_source_only: of KRIS-Bench's items with several pictures send the first, as EditThinker's scripts do.

    Raises:
        DatasetError: when the kind is unknown, or the dataset cannot be read.
    """
    if not path.exists():
        message = f"{path} does not exist"
        raise DatasetError(message)
    match kind:
        case "imgedit":
            return ImgEdit(path)
        case "gedit":
            return GEdit(path, language)
        case "risebench":
            return RiseBench(path)
        case "krisbench":
            return KrisBench(path, first_source_only=first_source_only)
        case "own":
            return Own(path, instruction)
    message = f"{kind!r} is not a dataset that is read here: {', '.join(KINDS)}"
    raise DatasetError(message)


def reopen(manifest: Mapping[str, Any]) -> list[Dataset]:
    """The datasets of a run, where they were.

    Args:
        manifest: what ``run.json`` has.

    Raises:
        DatasetError: when one cannot be read any more.
    """
    found = []
    for kind, options in manifest["datasets"].items():
        known = {name: options[name] for name in ("language", "instruction", "first_source_only") if name in options}
        found.append(load(kind, Path(options["path"]), **known))
    return found


def parse(words: str) -> tuple[str, Path]:
    """Kind and path of ``KIND=PATH``.

    Raises:
        DatasetError: for anything else.
    """
    kind, equals, path = words.partition("=")
    if not equals or kind not in KINDS or not path:
        message = f"{words!r}: write KIND=PATH, where KIND is one of {', '.join(KINDS)}"
        raise DatasetError(message)
    return kind, Path(path)
