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

RULES: Final = "rules"
"""The stand-in, which a stack has in any case."""
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
        StackError: there is no such profile, or no such folder.
    """
    profile, equals, model = named.partition("=")
    if equals and not model:
        raise StackError(f"--thinker {named}: no model after the '='; write PROFILE, or PROFILE=FOLDER")
    if profile == RULES:
        raise StackError(f"--thinker {named}: {RULES} is the stand-in, which has no model; write --thinker {RULES}")
    # A shell expands ~ at the beginning of a word only.
    folder = Path(model).expanduser()
    if model and not folder.is_dir() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        raise StackError(f"--thinker {named}: there is no folder {model}")
    given = ["--model", str(folder.absolute()) if folder.is_dir() else model] if model else []
    arguments = ["services.thinker", "--profile", profile, *given, "--host", LOOPBACK, "--port", str(port)]
    command = isolated(_PROGRAM, *arguments)
    what, entries = _shown(named, command)
    served = str(model or what["model"])
    if "/" not in served and not Path(served).is_dir():
        raise StackError(f"--thinker {named}: {served!r} is neither a folder here nor a hub id; write {profile}=FOLDER")
    return VllmThinker(command, f"http://{LOOPBACK}:{port}/health", entries)


def _shown(named: str, command: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The profile, and the orchestrator's entries for it."""
    try:
        shown = subprocess.run(  # noqa: S603 - our own module
            [*command, "--show"], env=inherited(), capture_output=True, text=True, timeout=_SHOW_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise StackError(f"--thinker {named}: its profile was not read within {_SHOW_S:g} s; try again") from exc
    if shown.returncode:
        raise StackError(f"--thinker {named}: {shown.stderr.strip()}")
    profile, _, setting = shown.stdout.rstrip("\n").rpartition("\n")
    return json.loads(profile), json.loads(shlex.split(setting)[0].partition("=")[2])
