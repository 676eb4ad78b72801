"""Runs a Python module and attributes its CPU time to areas of the code: ``python cpu_areas.py FIGURES MODULE [ARGUMENT …]``.

A thread wakes up twice a millisecond, reads the CPU clock of every other thread, and adds what each has used since to
the area of the code that it is in. So the sum is exact, and its division is a sample. A thread that holds the interpreter's lock
for long is looked at when it lets go: some of what the event loop's callbacks use is counted as the loop's. Threads that are not
Python's are one area.

`benchmarks.overhead --profile` starts the orchestrator of any checkout with it; so it imports nothing of this project.
pyinstrument samples wall-clock time, cProfile doubles the time of small functions, and py-spy needs ptrace: hence our own.
"""

from __future__ import annotations

import json
import runpy
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

_EVERY_S: Final = 0.0005
WRITE_EVERY_S: Final = 0.25
_SWITCH_S: Final = 0.0001
_THREAD_CLOCK: Final = 6
"""Linux: the clock of the CPU time of a thread is its number, inverted, shifted by three, and this."""

# (area, end of a file's name, functions or none for all), from the innermost frame outwards; the first that matches decides.
_AREAS: Final = (
    ("digest", "imaging/codec.py", ("digest",)),
    ("blob write", "store/blobs.py", ("put", "_write", "write_document", "_remember")),
    ("blob read", "store/blobs.py", ("get", "read", "_read")),
    ("picture check: this process", "imaging/decode_pool.py", ()),
    ("picture check: this process", "imaging/", ()),
    ("request to the thinker", "upstreams/reply_contract.py", ()),
    ("request to the thinker", "upstreams/thinker.py", ()),
    ("request to the thinker", "protocol/critique/", ()),
    ("request to the editor", "upstreams/editor.py", ("_multipart",)),
    ("reply of the editor", "upstreams/http.py", ("_read", "add", "content", "_json")),
    ("reply of the editor", "serving/json_body.py", ()),
    ("reply of the editor", "upstreams/editor.py", ("_image_of", "_base64_of")),
    ("reply of the editor", "aiohttp/streams.py", ()),
    ("reply of the editor", "aiohttp/client_proto.py", ()),
    ("HTTP client", "aiohttp/", ()),
    ("HTTP client", "orchestrator/upstreams/", ()),
    ("HTTP client", "stamina/", ()),
    ("HTTP client", "tenacity/", ()),
    ("Redis", "/redis/", ()),
    ("Redis", "orchestrator/store/", ()),
    ("events and decisions", "orchestrator/loop/", ()),
    ("events and decisions", "orchestrator/execution/", ()),
    ("events and decisions", "orchestrator/metrics.py", ()),
    ("events and decisions", "serving/tracing.py", ()),
    ("API and HTTP server", "orchestrator/api/", ()),
    ("API and HTTP server", "uvicorn/", ()),
    ("API and HTTP server", "starlette/", ()),
    ("API and HTTP server", "fastapi/", ()),
    ("API and HTTP server", "h11/", ()),
    ("API and HTTP server", "/multipart", ()),
    ("API and HTTP server", "services/serving/", ()),
    ("pictures to and from decode processes", "concurrent/futures/thread.py", ()),
    ("event loop and sockets", "asyncio/runners.py", ()),
)
_NATIVE: Final = "threads of the blob store"
_REST: Final = "rest"


def area_of(frame: FrameType | None) -> tuple[str, str]:
    """The area of a stack, and the file and function that decided it."""
    innermost = ""
    while frame is not None:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        innermost = innermost or f"{'/'.join(name.rsplit('/', 2)[-2:])}:{function}"
        for area, end, functions in _AREAS:
            if (name.endswith(end) or (end.endswith("/") and end in name)) and (not functions or function in functions):
                return area, f"{innermost} < {name.rsplit('/', 1)[-1]}:{function}"
        frame = frame.f_back
    return _REST, innermost


class Sampler(threading.Thread):
    """Attributes CPU seconds while the process runs.

    Args:
        figures: the file that the seconds so far are written to, as JSON.
    """

    def __init__(self, figures: Path) -> None:
        super().__init__(name="cpu areas", daemon=True)
        self._figures = figures
        self._used: dict[int, float] = {}
        self._total = 0.0
        self._areas: Counter[str] = Counter()
        self._places: Counter[str] = Counter()

    def run(self) -> None:
        """Sample until the process ends."""
        written = time.monotonic()
        while True:
            time.sleep(_EVERY_S)
            self._sample()
            if time.monotonic() - written > WRITE_EVERY_S:
                written = time.monotonic()
                self._write()

    def _sample(self) -> None:
        frames = sys._current_frames()  # noqa: SLF001 - there is no other way
        total = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
        natives, self._total = total - self._total, total
        for thread in threading.enumerate():
            number = thread.native_id or 0
            try:
                seconds = time.clock_gettime(~number << 3 | _THREAD_CLOCK)
            except OSError:
                continue
            spent = seconds - self._used.get(number, seconds)
            self._used[number] = seconds
            natives -= spent
            if thread is not self:
                # A thread of a library that once called Python is known to Python, but is mostly in no frame of it.
                frame = frames.get(thread.ident or 0)
                self._add(spent, area_of(frame) if frame else (_NATIVE, ""))
        self._add(natives, (_NATIVE, ""))

    def _add(self, spent: float, where: tuple[str, str]) -> None:
        self._areas[where[0]] += spent  # type: ignore[assignment]  # seconds, not a count
        self._places[": ".join(where)] += spent  # type: ignore[assignment]

    def _write(self) -> None:
        new = self._figures.with_suffix(".new")
        new.write_text(json.dumps({"areas": dict(self._areas), "places": dict(self._places)}), "utf-8")
        new.replace(self._figures)


def main() -> None:
    """Start the sampler, then be the module."""
    figures, module = Path(sys.argv[1]), sys.argv[2]
    # `python file` puts the file's folder first; `python -m` the current one.
    sys.path[0] = str(Path.cwd())
    sys.argv = [module, *sys.argv[3:]]
    # The sampler gets the interpreter's lock within this time, not in 5 ms, when the thread that has it waits for its sockets.
    sys.setswitchinterval(_SWITCH_S)
    Sampler(figures).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
