"""Ten thousand sessions as training data: ``python -m benchmarks.trajectories``.

One session of two turns runs for real, against the tests' editor and thinker. It is then written 10,000 times into a real Valkey
and a blob store, through the store as a driver records it, each with pictures of its own. A process for each form exports all of
them over HTTP; its peak memory and its rows a second are printed, and the server's memory. Each session is one row. With
`--sessions 1000` one sees that memory does not grow with the number of sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil
from PIL import Image
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from editthinker import EditThinker
from evaluation.trajectories.exporting import ExportOptions, export
from evaluation.trajectories.layouts import FORMS
from orchestrator.loop import events as ev
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from orchestrator.store.training import TrainingStore
from services.imaging.codec import digest
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import Script, application, serving

PHOTO: Final = Path(__file__).parents[1] / "examples" / "photos" / "coffee.jpg"
SCORES: Final = [(3, 9), (9, 9)]


@dataclass(frozen=True)
class Picture:
    """A blob."""

    data: bytes
    sha256: str


def picture(pixels: np.ndarray[Any, Any], number: int, kind: int) -> Picture:
    """The photograph, with a number in its corner so that no two are the same."""
    own = pixels.copy()
    own[0, 0] = (number >> 8 & 255, number & 255, kind)
    Image.fromarray(own).save(buffer := io.BytesIO(), "PNG", compress_level=1)
    return Picture(buffer.getvalue(), digest(buffer.getvalue()))


def copy(events: list[dict[str, Any]], pictures: dict[str, Picture]) -> list[ev.Event]:
    """A session's events with other pictures, by the digests of the former."""

    def copied(value: Any) -> Any:
        if isinstance(value, list):
            return [copied(each) for each in value]
        if not isinstance(value, dict):
            return value
        own = {name: copied(each) for name, each in value.items()}
        new = pictures.get(value.get("sha256", ""))
        return {**own, "sha256": new.sha256, "bytes": len(new.data)} if new else own

    return [ev.load(json.dumps(copied(event))) for event in events]


async def write(redis_port: int, blobs: Path, template: list[dict[str, Any]], sessions: int, side: int) -> None:
    """So many copies of a session."""
    with Image.open(PHOTO) as photo:
        pixels = np.asarray(photo.convert("RGB").resize((side, side)))
    digests = [template[0]["source"]["sha256"]]
    digests += [event["image"]["sha256"] for event in template if event["type"] == "edited"]
    redis = Redis(port=redis_port)
    store, folders = RedisSessions(redis, PubSubFanout(lambda: redis), KeySpace(), SessionsOptions()), ObjectBlobs(str(blobs))
    try:
        for number in range(sessions):
            name = f"ses_{number:032x}"
            own = {former: picture(pixels, number, kind) for kind, former in enumerate(digests)}
            for each in own.values():
                await folders.put(name, each)
            created, *rest = copy(template, own)
            assert isinstance(created, ev.SessionCreated)
            await store.create(name, created, None)
            assert await store.append(name, 1, rest, None)
            if number % 1000 == 999:
                print(f"{number + 1} sessions", file=sys.stderr)
    finally:
        await redis.aclose()


async def allow(redis_port: int) -> None:
    redis = Redis(port=redis_port)
    try:
        await TrainingStore(redis, KeySpace(), time.time).allow("default")
    finally:
        await redis.aclose()


async def archived(redis_port: int) -> None:
    """Wait until the server has archived all sessions, so that this is not measured with the exports."""
    redis = Redis(port=redis_port)
    try:
        while await _archiving(redis):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.5)
    finally:
        await redis.aclose()


async def _archiving(redis: Redis) -> bool:
    timers: Any = await redis.zrange(KeySpace().timers, 0, 20)
    return any(name.startswith(b"archive:") for name in timers)


def template_of(url: str, side: int) -> list[dict[str, Any]]:
    """The events of one session."""
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").resize((side, side)).save(buffer := io.BytesIO(), "PNG")
    with EditThinker(url, "") as client:
        session = client.sessions.create(buffer.getvalue(), "make it feel like golden hour", max_turns=2, deadline_s=3600)
        client.sessions.wait(session.id)
        [document] = client.sessions.export(training="allowed")
        client.sessions.delete(session.id)
    events = [{name: value for name, value in event.items() if name != "seq"} for event in document["events"]]
    # One row a session: of the last critique no reply is kept, as of one that is too long.
    critiques = [event for event in events if event["type"] == "critiqued"]
    for name in ("reply", "prompt"):
        del critiques[-1][name]
    return events


def child(form: Any, url: str, folder: Path) -> None:
    """One export, in a process of its own."""
    began = time.monotonic()
    with EditThinker(url, "") as client:
        done = export(client, folder, ExportOptions(form))
    seconds = time.monotonic() - began
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    used = resource.getrusage(resource.RUSAGE_SELF)
    rows = sum(done.rows.values())
    found = {
        "form": form,
        "rows": rows,
        "left out": sum(done.skipped.values()),
        "MB written": size / 1e6,
        "peak MB": _peak() / 2**20,
    }
    found["ms of CPU a row"] = 1000 * (used.ru_utime + used.ru_stime) / max(1, rows)
    print(done.skipped, file=sys.stderr)
    print(json.dumps({**found, "seconds": seconds, "rows/s": rows / seconds}))


def _peak() -> int:
    """The largest resident size of this process, in bytes; `ru_maxrss` is never below that of the process that started it."""
    [line] = [line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def measured(form: str, server: Process, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.trajectories", "--child", form, "--url", server.url]
    process = psutil.Process(server.popen.pid)
    before = sum(process.cpu_times()[:2])
    done = subprocess.run([*command, "--folder", str(folder / form)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    print(done.stderr, file=sys.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    for path in sorted((folder / form).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    found["of the server"] = 1000 * (sum(process.cpu_times()[:2]) - before) / max(1, found["rows"])
    return {**found, "server MB": process.memory_info().rss / 2**20}


def run(folder: Path, sessions: int, side: int, forms: list[str]) -> list[dict[str, Any]]:
    """Make the sessions, and export them in each form."""
    blobs = folder / "blobs"
    script = Script(scores=[(float(a), float(b)) for a, b in SCORES])
    with redis_server(folder, None, "--appendfsync", "no") as redis, serving(application(script)) as upstreams:
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(blobs),
            "EDITTHINKER_EDITORS": json.dumps({"double": {"url": f"{upstreams}/editor/v1"}}),
            "EDITTHINKER_THINKERS": json.dumps({"double": {"url": f"{upstreams}/thinker/v1", "model": "double"}}),
            "EDITTHINKER_CONFIRMATIONS": "0",
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_LOG_LEVEL": "warning",
        }

        def start() -> Process:
            server = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
            wait_ready(server)
            return server

        asyncio.run(allow(redis.port))
        server = start()
        try:
            template = template_of(server.url, side)
        finally:
            server.stop()
        # While nobody drives sessions.
        asyncio.run(write(redis.port, blobs, template, sessions, side))
        server = start()
        try:
            asyncio.run(archived(redis.port))
            rows = []
            for form in forms:
                rows.append(measured(form, server, folder))
                print(rows[-1], file=sys.stderr)
            assert httpx.get(f"{server.url}/healthz", trust_env=False).status_code == httpx.codes.OK
            return rows
        finally:
            server.stop()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=96, help="pixels of a picture's side")
    parser.add_argument("--forms", nargs="*", default=list(FORMS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.url, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        rows = run(Path(name), options.sessions, options.side, options.forms)
    _print(f"{options.sessions:,} sessions of two turns, pictures of {options.side} pixels", rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.0f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
