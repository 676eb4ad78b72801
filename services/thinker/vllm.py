"""Becoming vLLM: which executable, which command, and how it is shown to people."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SECRET: Final = frozenset({"--api-key", "--hf-token"})
_REASONING_PARSER: Final = (
    "--reasoning-parser: vLLM does not enforce constraints on what it takes for thoughts, "
    "and critiques that begin with <think> may never reach their scores"
)


class VllmNotFoundError(Exception):
    """There is no vLLM to become; the message says where it was looked for."""


def executable(given: str | None = None) -> str:
    """The ``vllm`` command: the one given, else the one beside this Python, else the one on ``PATH``.

    Raises:
        VllmNotFoundError: when there is none.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise VllmNotFoundError(f"EDITTHINKER_THINKER_VLLM: {given!r} is no executable")
        return found
    found = shutil.which("vllm", path=str(Path(sys.executable).parent)) or shutil.which("vllm")
    if found is None:
        raise VllmNotFoundError(
            "this profile needs vLLM, which is neither beside this Python nor on PATH: "
            "pip install vllm, or name its executable in EDITTHINKER_THINKER_VLLM"
        )
    return found


def shown(command: Sequence[str]) -> str:
    """The command as one would type it, keys left out."""
    words = list(command)
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in _SECRET and equals:
            words[place] = f"{name}=***"
        elif name in _SECRET and place + 1 < len(words):
            words[place + 1] = "***"
    return shlex.join(words)


def doubts(words: Sequence[str]) -> list[str]:
    """What is wrong with arguments that vLLM would accept; a sentence each."""
    parsed = any(word.partition("=")[0] == "--reasoning-parser" for word in words)
    return [_REASONING_PARSER] if parsed else []
