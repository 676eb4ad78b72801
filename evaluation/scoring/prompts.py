"""The texts that a judge is asked: a benchmark's own, from the file that it ships, or ours of the same criteria.

The benchmarks' texts are theirs and are not copied here. With ours the numbers do not compare to papers; with theirs they do, if
the judge is the paper's too. Their files are read and never run: JSON, or the text constants of a Python module.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final


class PromptError(ValueError):
    """A file of prompts that cannot be used."""


OURS: Final = "our words"
_VIESCORE: Final = {
    "semantics": ("_context_no_delimit", "_prompts_0shot_two_image_edit_rule", "_prompts_0shot_tie_rule_SC"),
    "quality": ("_context_no_delimit", "_prompts_0shot_rule_PQ"),
}
"""The constants of ``vie_prompts.py`` of which VIEScore's task ``tie`` is made."""


_FORMATTED: Final = frozenset({"risebench", "krisbench"})
"""The benchmarks whose texts are filled in with `str.format`; the others' have ``<instruction>`` or ``<edit_prompt>``."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts for one kind of dataset, and whose they are."""

    kind: str
    texts: Mapping[str, str]
    origin: str

    def text(self, name: str, **values: str) -> str:
        """A text with an item's values in it.

        Raises:
            PromptError: when the text is not there, or needs a value that items do not have.
        """
        template = self.texts.get(name) or self.texts.get("default")
        if template is None:
            message = f"{self.origin}: the text {name!r} is missing"
            raise PromptError(message)
        if self.kind not in _FORMATTED:
            return template.replace("<edit_prompt>", values["instruct"]).replace("<instruction>", values["instruct"])
        try:
            return template.format(**values)
        except (KeyError, IndexError, ValueError) as exc:
            message = f"{self.origin}: the text {name!r} cannot be filled in: {exc}"
            raise PromptError(message) from exc


def load(kind: str, path: Path | None) -> Prompts:
    """The texts for a kind of dataset: of a file, or ours.

    Raises:
        PromptError: when the file cannot be read, or has no texts.
    """
    if path is None:
        ours = tomllib.loads(files("evaluation.scoring").joinpath("prompts.toml").read_text("utf-8"))
        return Prompts(kind, {name: text.strip() for name, text in ours[kind].items()}, OURS)
    try:
        text = path.read_text("utf-8")
        texts = _json(text) if path.suffix == ".json" else _constants(text)
    except (OSError, ValueError, SyntaxError, RecursionError) as exc:
        message = f"{path}: {getattr(exc, 'strerror', None) or exc}"
        raise PromptError(message) from exc
    if kind == "gedit":
        missing = next((name for names in _VIESCORE.values() for name in names if name not in texts), None)
        if missing:
            message = f"{path}: the text {missing!r} is missing"
            raise PromptError(message)
        texts = {name: "\n".join(texts[part] for part in parts) for name, parts in _VIESCORE.items()}
    return Prompts(kind, texts, str(path))


def _json(text: str) -> dict[str, str]:
    value = json.loads(text)
    if not isinstance(value, dict):
        message = "expected an object of texts"
        raise PromptError(message)
    return {name: each for name, each in value.items() if isinstance(each, str)}


def _constants(text: str) -> dict[str, str]:
    """The texts that a module assigns at its top, without running it."""
    found: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    return found
