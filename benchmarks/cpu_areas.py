"""Runs a Python module and attributes its CPU time to areas of the code: ``python cpu_areas.py FIGURES MODULE [ARGUMENT …]``.

A timer of the process's CPU time sends a signal every two milliseconds. Its handler adds what the main thread has used since the
last one to the area of the code that it is in, and what the other threads have used to an area of their own. So the sum is exact,
and its division is a sample. What the event loop does outside of Python (sockets, waiting) is mostly counted as the loop's.

`benchmarks.overhead --profile` starts the orchestrator of any checkout with it; so it imports nothing of this project.
pyinstrument samples wall-clock time, cProfile doubles the time of small functions, and py-spy needs ptrace. A sampling thread
needs the lock of the interpreter, which it gets when the others wait; and a process that is forked while it runs may hang.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

_EVERY_S: Final = 0.002
WRITE_EVERY_S: Final = 0.05

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
    ("event loop and sockets", "asyncio/runners.py", ()),
)
_THREADS: Final = "threads (blob store, pictures to decode processes)"
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


class Sampler:
    """Attributes CPU seconds while the process runs.

    Args:
        figures: the file that the seconds so far are written to, as JSON.
    """

    def __init__(self, figures: Path) -> None:
        self._figures = figures
        self._main = self._others = 0.0
        self._written = 0.0
        self._areas: Counter[str] = Counter()
        self._places: Counter[str] = Counter()

    def start(self) -> None:
        """Sample from now on, in the main thread."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        main = time.thread_time()
        others = time.process_time() - main
        self._add(main - self._main, area_of(frame))
        self._add(others - self._others, (_THREADS, ""))
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self._write()
        self._main, self._others = time.thread_time(), others

    def _add(self, spent: float, where: tuple[str, str]) -> None:
        self._areas[where[0]] += spent  # type: ignore[assignment]  # seconds, not a count
        self._places[": ".join(where)] += spent  # type: ignore[assignment]

    def _write(self) -> None:
        new = self._figures.with_suffix(".new")
        new.write_text(json.dumps({"areas": dict(self._areas), "places": dict(self._places)}), "utf-8")
        new.replace(self._figures)
        self._written = time.monotonic()


def main() -> None:
    """Start the sampler, then be the module."""
    figures, module = Path(sys.argv[1]), sys.argv[2]
    # `python file` puts the file's folder first; `python -m` the current one.
    sys.path[0] = str(Path.cwd())
    sys.argv = [module, *sys.argv[3:]]
    Sampler(figures).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
