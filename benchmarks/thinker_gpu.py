"""Measures critiques on a GPU with vLLM: ``python -m benchmarks.thinker_gpu``.

A Qwen3-VL-8B of the published size with random weights, made by vLLM itself, so nothing is downloaded; pictures of
1024 x 1024; sessions of four turns, one critique after the other. Reports seconds and the share of the prompt found in the
prefix cache, for our order (template and source first) and for the naive one (all texts, the candidate, the source).

Needs vLLM (in this Python's environment, on PATH, or named by ``--vllm``), a GPU, httpx and Pillow; vLLM's environment has all
of them. ``--tiny`` runs the same code on a CPU with a tiny model.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import CritiqueRequest, Picture, build
from services.thinker.vllm import VllmNotFoundError, executable

ROOT = Path(__file__).parents[1]
FORM = FORMATS["editthinker"]
ORDERS = ("ours, reply as constrained", "ours", "naive order")


@dataclass(frozen=True)
class Asked:
    """One critique: its turn (from 1), and the server's usage figures."""

    order: str
    session: int
    turn: int
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    reply_tokens: int


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="thinker_gpu", description="critiques by a full-size Qwen3-VL with random weights")
    parser.add_argument("--profile", help="of services.thinker (qwen3-vl-8b; with --tiny tiny)")
    parser.add_argument("--vllm", help="vLLM's executable")
    parser.add_argument("--side", type=int, default=1024, help="pixels of a picture's side (1024)")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=4, help="of each order, after one to warm up (4)")
    parser.add_argument("--reply", type=int, default=300, help="tokens of a reply, but for the constrained ones (300)")
    parser.add_argument("--ready", type=float, default=900, help="seconds until the server must be ready (900)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON here")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU: checks the code, the figures mean nothing")
    return parser.parse_args(argv)


@contextlib.contextmanager
def serving(options: argparse.Namespace, vllm: str, folder: Path) -> Iterator[str]:
    """The base URL of a ready server."""
    python = Path(vllm).read_text("utf-8").splitlines()[0].removeprefix("#!").split()[0]
    size = [] if options.tiny else ["--size", "8b", "--without-weights"]
    subprocess.run([python, "-m", "tests.vllm.tiny_vl", "qwen3_vl", folder / "model", *size], cwd=ROOT, check=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    profile = options.profile or ("tiny" if options.tiny else "qwen3-vl-8b")
    command = [sys.executable, "-m", "services.thinker", "--profile", profile, "--model", str(folder / "model")]
    command += ["--served-name", "thinker", "--port", str(port), "--"]
    command += [] if options.tiny else ["--load-format", "dummy"]
    log = folder / "vllm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=_environment(vllm))
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", options.ready, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _environment(vllm: str) -> dict[str, str]:
    return {**os.environ, "EDITTHINKER_THINKER_VLLM": vllm, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def _wait(process: subprocess.Popen[bytes], url: str, seconds: float, log: Path) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.5)
    raise SystemExit(f"vLLM did not become ready:\n{log.read_text('utf-8', 'replace')[-6000:]}")


def picture(seed: str, side: int) -> Picture:
    """A soft random landscape of blobs, as a PNG, different for each seed."""
    dice = random.Random(seed)
    small = Image.frombytes("RGB", (16, 16), dice.randbytes(16 * 16 * 3))
    out = io.BytesIO()
    small.resize((side, side), Image.Resampling.BICUBIC).save(out, "PNG", compress_level=1)
    return Picture(out.getvalue(), "image/png")


def request(order: str, session: int, turn: int, options: argparse.Namespace) -> dict[str, Any]:
    """The body of a turn's critique."""
    mark = f"{order} {session}"
    asked = CritiqueRequest(
        picture(mark, options.side),
        picture(f"{mark} {turn}", options.side),
        f"make it feel like golden hour, take {session}",
        f"warm low sunlight from the left, long soft shadows, amber haze in the distance; attempt {turn}",
    )
    messages = build(asked, FORM.template())
    if order == "naive order":
        content = messages[0]["content"]
        texts = [part for part in content if part["type"] == "text"]
        source, candidate = (part for part in content if part["type"] == "image_url")
        messages = [{"role": "user", "content": [*texts, candidate, source]}]
    body = {"model": "thinker", "messages": messages, "temperature": 1, "max_tokens": options.reply}
    if order == "ours, reply as constrained":
        return {**body, "max_tokens": 4096, **FORM.bind().constraint("regex")}
    return {**body, "ignore_eos": True}


def run(url: str, options: argparse.Namespace) -> list[Asked]:
    """All critiques, one at a time; the prompt orders alternate, so that neither runs on a warmer machine."""
    rows = []
    with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
        for session in range(options.sessions + 1):
            for order in ORDERS:
                for turn in range(1, options.turns + 1):
                    body = json.dumps(request(order, session, turn, options)).encode()
                    began = time.perf_counter()
                    response = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
                    seconds = time.perf_counter() - began
                    usage = response.raise_for_status().json()["usage"]
                    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                    row = Asked(order, session, turn, seconds, usage["prompt_tokens"], cached, usage["completion_tokens"])
                    sys.stderr.write(f"{row}\n")
                    rows.append(row)
    # The first session of each order includes compilation and allocation.
    return [row for row in rows if row.session > 0]


def lines(rows: Sequence[Asked]) -> list[str]:
    """A Markdown table: medians over sessions."""
    out = ["| order | turn | s a critique | prompt tokens | of them cached | reply tokens |", "|---|---:|---:|---:|---:|---:|"]
    for order in ORDERS:
        for turn in sorted({row.turn for row in rows}):
            group = [row for row in rows if (row.order, row.turn) == (order, turn)]
            seconds, prompt, cached, reply = (
                statistics.median(getattr(row, name) for row in group)
                for name in ("seconds", "prompt_tokens", "cached_tokens", "reply_tokens")
            )
            out.append(f"| {order} | {turn} | {seconds:.2f} | {prompt:.0f} | {cached / prompt:.0%} | {reply:.0f} |")
    return out


def _gpu() -> str | None:
    """The first GPU's name."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    done = subprocess.run([tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, check=False, text=True)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write all critiques as JSON if wanted."""
    options = arguments(argv)
    gpu = "a CPU, a toy" if options.tiny else _gpu()
    if gpu is None:
        print("this benchmark needs a GPU, and nvidia-smi shows none; --tiny tries it out on a CPU")
        return 0
    try:
        vllm = executable(options.vllm)
    except VllmNotFoundError as exc:
        print(f"this benchmark needs vLLM: {exc}")
        return 0
    with tempfile.TemporaryDirectory() as folder, serving(options, vllm, Path(folder)) as url:
        version = httpx.get(f"{url}/version", trust_env=False).json()["version"]
        rows = run(url, options)
    print(f"{gpu}, vLLM {version}, {options.side} x {options.side}, {options.sessions} sessions", end="\n\n")
    print("\n".join(lines(rows)))
    if options.out:
        about = {"device": gpu, "vllm": version, "side": options.side, "rows": [asdict(row) for row in rows]}
        options.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
