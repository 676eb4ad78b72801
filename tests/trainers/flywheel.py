"""Sessions, export, SFT, the trained thinker served, sessions with it, export again: ``python -m tests.trainers.flywheel``.

Each arrow is the public API or the command line. The model has a million random weights, and learns for a few minutes on one
core the rules' replies to a few plain instructions. What is shown is that the wheel turns, not that the thinker is good.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from PIL import Image

from editthinker import EditThinker
from editthinker.client import Session
from editthinker.local import Stack
from tests.doubles.processes import Process, free_port, start, wait_ready
from training.metrics import MetricsFile
from training.replies import parse

ROOT: Final = Path(__file__).parents[2]
INSTRUCTIONS: Final = ("make it brighter", "make it warmer", "increase the contrast", "make it darker")
SIDE: Final = 64
NAME: Final = "flywheel"


@dataclass(frozen=True)
class Wheel:
    """Where it turns.

    Attributes:
        folder: of everything that is written.
        trl: the Python of TRL's environment.
        steps: of SFT.
        pictures: sources of the first sessions; each is edited by every instruction.
        vllm: vLLM's executable, or None for the small server.
    """

    folder: Path
    trl: Path
    steps: int
    pictures: int
    vllm: Path | None = None

    def command(self, *arguments: object) -> str:
        """Run a command of ``editthinker`` with the stack's home; returns what it says."""
        command = [sys.executable, "-m", "editthinker", *map(str, arguments)]
        return _run(command, {"EDITTHINKER_HOME": str(self.folder / "home")})

    def trained(self, module: str, *arguments: object) -> str:
        """Run a module in TRL's environment."""
        return _run([str(self.trl), "-m", module, *map(str, arguments)], _offline(self.folder))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def turn(wheel: Wheel) -> dict[str, int]:
    """Turn it once; what each step counted."""
    counts: dict[str, int] = {}

    def count(step: str, number: int) -> None:
        counts[step] = number
        say(f"{step}: {number}")

    with stack(wheel) as url:
        wheel.command("training", "allow", "--tenant", "default")
        count("sessions with the rules", len(sessions(url, range(wheel.pictures), "rules")))
        wheel.command("export", "--as", "trl", "-o", wheel.folder / "first", "--server", url)
    count("rows exported", len(_rows(wheel.folder / "first")))

    wheel.trained("tests.vllm.tiny_vl", "qwen3_vl", wheel.folder / "random")
    out = wheel.folder / "sft"
    options = ("--steps", wheel.steps, "--batch", 4, "--rate", 4e-3, "--save-every", 50, "--warm-up", 0.1)
    wheel.trained("training.sft", wheel.folder / "first", "--model", wheel.folder / "random", "--out", out, *options)
    losses = [row["loss"] for row in MetricsFile(out / "metrics.jsonl").read() if "loss" in row]
    count("steps of SFT", len(losses))
    say(f"loss: {losses[0]:.2f} to {losses[-1]:.2f}")

    with served(wheel, out / "final") as thinker, stack(wheel, thinker) as url:
        # Another picture: what the first export has, the second leaves out as a repeat.
        done = sessions(url, range(wheel.pictures, wheel.pictures + 1), NAME)
        count("sessions with the trained thinker", len(done))
        count("of them succeeded", sum(session.status == "succeeded" for session in done))
        wheel.command("export", "--as", "trl", "-o", wheel.folder / "second", "--server", url)
    again = [row for row in _rows(wheel.folder / "second") if row["thinker"] == NAME]
    count("rows exported of the trained thinker", len(again))
    count("of them in the taught form", sum(parse(row["completion"][0]["content"][0]["text"]) is not None for row in again))
    return counts


def sessions(url: str, pictures: Sequence[int], thinker: str) -> list[Session]:
    """Finished sessions over parts of the photographs, one for each instruction and picture, judged by the thinker itself."""
    with EditThinker(url, "") as client:
        begun = [
            client.sessions.create(source, instruction, thinker=thinker, max_turns=2, seed=number, semantic_threshold=10)
            for number, source in zip(pictures, map(_source, pictures), strict=True)
            for instruction in INSTRUCTIONS
        ]
        return [client.sessions.wait(session.id, timeout=900) for session in begun]


def _source(number: int) -> bytes:
    photos = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
    with Image.open(photos[number % len(photos)]) as opened:
        left, top = 53 * number % (opened.width - 2 * SIDE), 37 * number % (opened.height - 2 * SIDE)
        part = opened.convert("RGB").crop((left, top, left + 2 * SIDE, top + 2 * SIDE)).resize((SIDE, SIDE))
    part.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@contextlib.contextmanager
def stack(wheel: Wheel, thinker: Process | None = None) -> Iterator[str]:
    """The embedded stack on the wheel's home; its URL."""
    entry = {"url": "" if thinker is None else f"{thinker.url}/v1", "model": NAME, "format": "editthinker", "constraint": "none"}
    # Each candidate is critiqued once: a row needs no more, and the model is slow.
    settings = {"EDITTHINKER_CONFIRMATIONS": "0", "EDITTHINKER_JUDGE_CHECK": "off"}
    if thinker is not None:
        settings["EDITTHINKER_THINKERS"] = json.dumps({NAME: {**entry, "sampling": {"temperature": 0, "max_tokens": 320}}})
    with _environment(settings), Stack(wheel.folder / "home") as running:
        yield running.base_url


@contextlib.contextmanager
def served(wheel: Wheel, model: Path) -> Iterator[Process]:
    """The trained model behind an OpenAI-compatible server."""
    port, log = free_port(), wheel.folder / "server.log"
    if wheel.vllm is None:
        script = ROOT / "tests" / "trainers" / "consumers" / "chat_server.py"
        process = start([str(wheel.trl), str(script), str(model), str(port), NAME], port, log, _offline(wheel.folder))
        path = "/v1/models"
    else:
        command = [sys.executable, "-m", "services.thinker", "--profile", "tiny", "--model", str(model), "--port", str(port)]
        command += ["--", "--served-model-name", NAME]
        process = start(command, port, log, {**_offline(wheel.folder), "EDITTHINKER_THINKER_VLLM": str(wheel.vllm)})
        path = "/health"
    try:
        wait_ready(process, path, seconds=600)
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _offline(folder: Path) -> dict[str, str]:
    kept = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    return {**kept, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _run(command: list[str], more: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("train-*.parquet")):
        rows += pq.read_table(path, columns=["thinker", "completion"]).to_pylist()
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Turn the wheel once; 1 unless every arrow carried something."""
    parser = argparse.ArgumentParser(prog="python -m tests.trainers.flywheel", description=__doc__)
    parser.add_argument("--trainers", type=Path, default=Path(".venv-trainers"), help="of tests/trainers/install.sh")
    parser.add_argument("--out", type=Path, default=Path("out/flywheel"), help="a new folder, or a run's to look into")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--vllm", type=Path, help="vLLM's executable, to serve with it")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=False)
    began = time.monotonic()
    trl = given.trainers.absolute() / "trl" / "bin" / "python"
    counts = turn(Wheel(given.out.absolute(), trl, given.steps, given.pictures, given.vllm))
    say(f"seconds: {time.monotonic() - began:.0f}")
    return 0 if all(counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
