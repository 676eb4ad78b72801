"""A thinker that vLLM serves within a stack: ``--thinker PROFILE[=MODEL]``.

What a profile means is the thinker's to know. It is asked as anyone would ask it: its ``--show`` prints the orchestrator's entry.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from editthinker.environment import inherited
from editthinker.local.errors import StackError
from editthinker.local.ports import LOOPBACK
from editthinker.local.service import isolated

START_S: Final = 900.0
"""A large model is read from the disk for minutes."""
_PROGRAM: Final = "editthinker thinker"
_SHOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class VllmThinker:
    """How a profile is served, and how the orchestrator finds it.

    Attributes:
        command: becomes vLLM.
        ready_url: answers 200 once vLLM can.
        entries: of ``EDITTHINKER_THINKERS``, one.
    """

    command: Sequence[str]
    ready_url: str
    entries: dict[str, Any]


def vllm_thinker(named: str, port: int) -> VllmThinker:
    """A thinker by its profile.

    Args:
        named: a profile, or ``profile=model``, where a model is a folder or a hub id in place of the profile's.
        port: that vLLM is to listen on.

    Raises:
        StackError: there is no such profile, or its model is a path without a folder.
    """
    profile, equals, model = named.partition("=")
    if equals and not model:
        raise StackError(f"--thinker {named}: no model after the '='; write PROFILE, or PROFILE=FOLDER")
    if model.startswith((".", "/", "~")) and not Path(model).is_dir():
        raise StackError(f"--thinker {named}: there is no folder {model}")
    given = ["--model", str(Path(model).absolute()) if Path(model).is_dir() else model] if model else []
    arguments = ["services.thinker", "--profile", profile, *given, "--host", LOOPBACK, "--port", str(port)]
    command = isolated(_PROGRAM, *arguments)
    shown = subprocess.run(  # noqa: S603 - our own module
        [*command, "--show"], env=inherited(), capture_output=True, text=True, timeout=_SHOW_S, check=False
    )
    if shown.returncode:
        raise StackError(f"--thinker {named}: {shown.stderr.strip()}")
    _, _, entries = shlex.split(shown.stdout.splitlines()[-1])[0].partition("=")
    return VllmThinker(command, f"http://{LOOPBACK}:{port}/health", json.loads(entries))
