"""A real vLLM as a process, started by the launcher."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.protocol.critique.formats import FORMATS
from tests.doubles.processes import Process, free_port, module, wait_ready

READY_S = 180.0
"""Two cores spend a minute on imports alone, in three processes."""
MINIATURE = "EDITTHINKER_MINIATURE"
"""Names a model that `make miniature` trained, for the tests that take one."""
BIAS = 5.0
"""``logit_bias`` of `endings`: keeps random weights from always writing up to the constraint's limit."""


def executable() -> Path:
    """vLLM's command, in the environment made by `install.sh`."""
    return Path(os.environ["EDITTHINKER_VLLM"]).absolute()


def environment() -> dict[str, str]:
    """The environment of a test's server: the path of vLLM; offline, without usage statistics."""
    return {
        "EDITTHINKER_THINKER_VLLM": str(executable()),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def write_model(family: str, folder: Path) -> Path:
    """A tiny model of a family of `tiny_vl`, written by vLLM's Python into a new folder inside of this one."""
    command = [str(executable().parent / "python"), "-m", "tests.vllm.tiny_vl", family, str(folder / family)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=300)
    return folder / family


def endings(model: Path) -> dict[str, str]:
    """The token that ends a free text, by format."""
    words = json.loads((model / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return {name: str(words["<" if name == "editthinker" else '"']) for name in FORMATS}


@contextlib.contextmanager
def serve(profile: str, model: Path, folder: Path, *extra: str) -> Iterator[Process]:
    """A server of this profile with these weights, ready for requests; its log is ``folder/vllm.log``.

    Args:
        profile: its name.
        model: a checkpoint folder.
        folder: where the log goes.
        extra: further arguments of vLLM.
    """
    words = ["--profile", profile, "--model", str(model), "--", *extra]
    process = module("services.thinker", free_port(), folder / "vllm.log", *words, env=environment())
    try:
        wait_ready(process, "/health", seconds=READY_S)
        yield process
    finally:
        # vLLM ends its child processes on SIGTERM.
        process.stop()
