"""``python -m benchmarks.native_size``: bytes and CPU seconds of a turn over a large source, with and without native sizes.

The worker is a real one with a tiny random model; the thinker, the orchestrator and its store are real
too. Both ways run in turn, in the same minutes. Between machines only the ratio means something.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.doubles.diffusion import png, source, worker
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready


def cpu_s(process: Process) -> float:
    """CPU seconds of a process and its children so far, the ended ones included."""
    top = psutil.Process(process.popen.pid)
    times = [each.cpu_times() for each in (top, *top.children(recursive=True))]
    return float(sum(used.user + used.system + used.children_user + used.children_system for used in times))


@contextmanager
def orchestrator(folder: Path, redis: Process, editor: Process, thinker: Process, *, native: bool) -> Iterator[Process]:
    """One with a store of its own."""
    database = int(native)
    fields = {"url": f"{editor.url}/v1", "parameters": ["size", "num_inference_steps"], "native_size": native}
    env = {
        "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/{database}",
        "EDITTHINKER_BLOBS": str(folder / f"blobs-{database}"),
        "EDITTHINKER_EDITORS": json.dumps({"tiny": fields}),
        "EDITTHINKER_THINKERS": json.dumps({"rules": {"url": f"{thinker.url}/v1", "model": "rules"}}),
    }
    process = module("orchestrator", free_port(), folder / f"log-{database}", env=env)
    try:
        wait_ready(process)
        while httpx.get(f"{process.url}/v1/models/tiny").json()["mask"] is None:
            time.sleep(0.2)
        yield process
    finally:
        process.stop()


def session(process: Process, editor: Process, image: bytes, turns: int) -> dict[str, Any]:
    """What one session took."""
    before = cpu_s(process), cpu_s(editor)
    fields = {"prompt": "make it feel like golden hour", "max_turns": turns, "patience": turns, "num_inference_steps": 1}
    fields |= {"semantic_threshold": 10, "quality_threshold": 10, "deadline_s": 3000}
    with httpx.Client(base_url=process.url, timeout=900, trust_env=False) as http:
        shown = http.post("/v1/sessions", data=fields, files={"image": image}, headers={"prefer": "wait=600"}).json()
        result = http.get(shown["urls"]["image"]).content
    made = [candidate["image"] for turn in shown["turns"] for candidate in turn["candidates"]]
    return {
        "turns": len(made),
        "size": f"{made[0]['width']}x{made[0]['height']}",
        "MB a turn": sum(each["bytes"] for each in made) / len(made) / 1e6,
        "MB of the result": len(result) / 1e6,
        "CPU s of the orchestrator": cpu_s(process) - before[0],
        "CPU s of the worker": cpu_s(editor) - before[1],
    }


def main() -> None:
    """Measure, and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="flux2-klein")
    parser.add_argument("--pixels", type=int, default=512 * 512, help="the working area")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    image = png(source(3, (4000, 3000)))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(redis_server(folder))
        thinker = module("services.thinker", free_port(), folder / "thinker.log", "--profile", "rules")
        stack.callback(thinker.stop)
        wait_ready(thinker)
        editor = stack.enter_context(worker(options.family, folder, pixels=options.pixels, max_batch=1))
        ways = {
            native: stack.enter_context(orchestrator(folder, redis, editor, thinker, native=native)) for native in (False, True)
        }
        for _ in range(options.rounds):
            for native, process in ways.items():
                print(json.dumps({"native": native, **session(process, editor, image, options.turns)}), flush=True)


if __name__ == "__main__":
    main()
