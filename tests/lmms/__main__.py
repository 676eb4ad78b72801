"""``python -m tests.lmms FOLDER``: lmms-eval, which `install.sh` put there, runs a small task with EditThinker as the model.

The exit code is 1 if not every item was edited.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from editthinker.local import Stack
from tests.doubles.layouts import gedit

_ITEMS = 4
_TASK = Path(__file__).with_name("task")


def main(environment: Path) -> int:
    """Run the task against an embedded stack."""
    with tempfile.TemporaryDirectory() as name, Stack(Path(name) / "stack") as stack:
        folder = Path(name)
        (data,) = gedit(folder / "data", _ITEMS // 2).glob("*.parquet")
        _write_task(folder / "task", data)
        out = folder / "out"
        done = subprocess.run(_command(environment, stack.base_url, folder, out), env=_environment(folder), check=False)
        found = [json.loads(path.read_text()) for path in out.rglob("*results.json")]
        scores = [
            value for each in found for name, value in each["results"]["editthinker_small"].items() if name.startswith("edited,")
        ]
        pictures = len(list((folder / "pictures").glob("*.png")))
        sys.stdout.write(f"exit {done.returncode}, edited {scores}, {pictures} pictures\n")
        return int(done.returncode != 0 or scores != [1.0] or pictures != _ITEMS)


def _write_task(folder: Path, data: Path) -> None:
    folder.mkdir()
    for path in _TASK.iterdir():
        if path.is_file():
            (folder / path.name).write_text(path.read_text("utf-8").replace("DATA_FILE", str(data)), "utf-8")


def _command(environment: Path, url: str, folder: Path, out: Path) -> list[str]:
    arguments = f"base_url={url},strategy=think,max_turns=2,output_image_dir={folder / 'pictures'}"
    words = [str(environment / "bin/python"), "-m", "lmms_eval", "--model", "editthinker", "--model_args", arguments]
    words += ["--include_path", str(folder / "task"), "--tasks", "editthinker_small", "--batch_size", "1"]
    return [*words, "--output_path", str(out), "--process_with_media"]


def _environment(folder: Path) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "WANDB_MODE": "disabled"}
    return {**os.environ, **offline, "HOME": str(folder), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
