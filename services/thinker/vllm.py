"""The vLLM command: its executable, how it is printed, and warnings about its arguments."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SECRET: Final = frozenset({"--api-key", "--hf-token"})
_REASONING_PARSER: Final = (
    "--reasoning-parser: vLLM does not enforce constraints on what it parses as reasoning, "
    "and critiques that begin with <think> may never reach their scores"
)


class VllmNotFoundError(Exception):
    """vLLM was not found; the message says where it was looked for."""


def executable(given: str | None = None) -> str:
    """The ``vllm`` command: the given one, else the one of this Python's environment, else the one on ``PATH``.

    Raises:
        VllmNotFoundError: when it is not found.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise VllmNotFoundError(f"EDITTHINKER_THINKER_VLLM: {given!r} is not an executable")
        return found
    found = shutil.which("vllm", path=str(Path(sys.executable).parent)) or shutil.which("vllm")
    if found is None:
        raise VllmNotFoundError(
            "this profile needs vLLM, which is neither in this Python's environment nor on PATH: "
            "pip install vllm, or name its executable in EDITTHINKER_THINKER_VLLM"
        )
    return found


def shown(command: Sequence[str]) -> str:
    """The command as a shell line, with secrets masked."""
    words = list(command)
    for index, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in _SECRET and equals:
            words[index] = f"{name}=***"
        elif name in _SECRET and index + 1 < len(words):
            words[index + 1] = "***"
    return shlex.join(words)


def warnings_about(words: Sequence[str]) -> list[str]:
    """Warnings about arguments that vLLM accepts but that break critiques, or may load other weights tomorrow."""
    names = {word.partition("=")[0] for word in words}
    warnings = [_REASONING_PARSER] if "--reasoning-parser" in names else []
    model = words[1] if len(words) > 1 else ""
    if model and "--revision" not in names and not Path(model).exists():
        warnings.append(f"{model} may change on the hub: set EDITTHINKER_THINKER_REVISION to the commit that you tested")
    return warnings
