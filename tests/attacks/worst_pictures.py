"""``python -m tests.attacks.worst_pictures``: the peak memory of each service for the worst accepted file of each format.

Each file has as many pixels as the defaults allow. It goes through the orchestrator, the embedded editor and thinker, is edited
twice at a time, and is fetched in another format. A service's peak is that of its process and its decode processes
together, shared buffers included. The tables of docs/security.md and docs/sizing.md are from here.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.attacks import files
from tests.attacks.arena import MIB, Arena, arena, memory_mib

SERVICES: Final = ("orchestrator", "editor", "thinker")
PAUSE_S: Final = 0.01
_ROOT: Final = Path(__file__).parents[2]
FILES: Final[dict[str, Callable[[], bytes]]] = {
    "baseline JPEG": files.baseline_jpeg,
    "progressive JPEG, 10 scans": lambda: files.progressive_jpeg(scans=10),
    "progressive CMYK JPEG, 8 scans": lambda: files.progressive_jpeg(scans=8, components=4),
    "lossless WebP": files.lossless_webp,
    "lossless WebP with alpha": lambda: files.lossless_webp(alpha=True),
    "16-bit grey PNG with tRNS": files.deep_png,
    "16-bit RGB PNG with tRNS": lambda: files.deep_png(kind=2),
    "16-bit RGBA PNG, interlaced": lambda: files.deep_png(kind=6, interlaced=True),
}


def with_buffers_mib(pid: int) -> float:
    """Resident memory of a process and its children, and their shared buffers."""
    shared = 0
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()).startswith("/memfd:"):
                    shared += descriptor.stat().st_blocks * 512
    return memory_mib(pid) + shared / MIB


@contextlib.contextmanager
def peaks(place: Arena) -> Iterator[dict[str, float]]:
    """The peak of each service while the context lasts."""
    found = dict.fromkeys(SERVICES, 0.0)
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(PAUSE_S):
            for name in SERVICES:
                found[name] = max(found[name], with_buffers_mib(place.pids[name]))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def through(place: Arena, data: bytes) -> str:
    """Two sessions at a time, and the source as WebP; how they ended."""
    ends: list[str] = []

    def edit() -> None:
        with place.client(timeout=400) as client:
            fields = {"prompt": "warmer", "max_turns": "1", "model": "embedded", "thinker": "embedded"}
            reply = client.post("/v1/sessions", files={"image": ("a", data)}, data=fields, headers={"prefer": "wait=300"})
            if not reply.is_success:
                ends.append(reply.json()["error"]["code"])
                return
            ends.append(reply.json()["finish_reason"] or reply.json()["status"])
            client.get(f"/v1/sessions/{reply.json()['id']}/source?format=webp").raise_for_status()

    threads = [threading.Thread(target=edit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ", ".join(sorted(set(ends)))


def limits_mib() -> dict[str, float]:
    """The memory limit that deploy/kubernetes ships for each service."""
    found = {}
    for name in SERVICES:
        text = (_ROOT / "deploy" / "kubernetes" / "base" / f"{name}.yaml").read_text()
        (limit,) = re.findall(r"limits: \{memory: (\d+)([GM])i\}", text)
        found[name] = float(limit[0]) * (1024 if limit[1] == "G" else 1)
    return found


def report() -> int:
    """Print the table; returns how many peaks exceed the shipped limit."""
    limits, failed = limits_mib(), 0
    sys.stdout.write("| file, 50 megapixels | bytes | orchestrator | editor | thinker | ended |\n|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder, arena(Path(folder)) as place:
        idle = {name: with_buffers_mib(place.pids[name]) for name in SERVICES}
        sys.stdout.write(f"| none (idle) | | {_cells(idle)} | |\n")
        for name, make in FILES.items():
            data = make()
            with peaks(place) as found:
                ended = through(place, data)
            sys.stdout.write(f"| {name} | {len(data):,} | {_cells(found)} | {ended} |\n")
            sys.stdout.flush()
            failed += sum(found[service] > limits[service] for service in SERVICES)
    sys.stdout.write(f"| the shipped limit | | {_cells(limits)} | |\n")
    return failed


def _cells(mib: dict[str, float]) -> str:
    return " | ".join(f"{mib[name]:,.0f} MiB" for name in SERVICES)


if __name__ == "__main__":
    raise SystemExit(1 if report() else 0)
