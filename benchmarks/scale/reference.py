"""The reference's way to run many sessions: a model of appletea233/EditThinker@803d1a7, written from its behaviour.

It follows these facts (``inference/run_edit_thinker_inference.py``, ``inference/scripts/run_edit_thinker_vllm.sh``):

- a `ProcessPoolExecutor` of 128; each session occupies one process from its first turn to its last, calls are blocking;
- every session has its own list of endpoints, used round robin from the first one; or there is one endpoint, nginx, which is a
  round robin itself (`benchmarks.scale.front`);
- source and result travel as base64 in JSON (``POST /edit``), the source re-encoded as PNG every turn; results are decoded,
  scaled to the source's size, saved as PNG, and read from disk again for the thinker, together with the source, at full size;
- an edit is attempted 100 times without a pause, with 600 s each; a critique 10 times with 360 s; every request has a new
  connection;
- scores of at least 8 and 8, or an unchanged instruction, end the session; the picture of the last turn is the answer;
- a failure ends its session, and a restarted session begins at turn 1.

Left out, in its favour: copies of the source saved every turn, of every turn's picture saved again at the end, the import of
`datasets`, and `requests` (urllib is lighter). ``python -m benchmarks.scale.reference '{…}'`` prints one line of JSON.
"""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import re
import resource
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks.scale.draws import MOST_TURNS, Step
from benchmarks.scale.pictures import Replies

WORKERS = 128
EDIT_ATTEMPTS, EDIT_TIMEOUT_S = 100, 600.0
CRITIQUE_ATTEMPTS, CRITIQUE_TIMEOUT_S = 10, 360.0
GOOD_ENOUGH = 8
_MULTIPLE = 16
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Endpoints:
    """A session's list of workers, used round robin from the first one."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._next = 0

    def next(self) -> str:
        """The next worker, regardless of the outcome of its last request."""
        url = self._urls[self._next]
        self._next = (self._next + 1) % len(self._urls)
        return url


@dataclass(frozen=True, slots=True)
class Job:
    """The sessions to run, from the number `first` on, with these editors and this thinker."""

    editors: list[str]
    thinker: str
    first: int
    count: int
    large: bool


@dataclass(slots=True)
class Sample:
    """Result of a session."""

    number: int
    turns: int = 0
    failed_requests: int = 0
    satisfied: bool = False
    error: str | None = None


@dataclass(slots=True)
class Result:
    """Results of all sessions; CPU and memory are those of all processes."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    live_at_peak: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)


def _post(url: str, payload: object, timeout_s: float) -> Any:
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"content-type": "application/json"})
    with _DIRECT.open(request, timeout=timeout_s) as reply:
        return json.loads(reply.read())


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _edit(endpoints: Endpoints, prompt: str, image: Image.Image, sample: Sample) -> Image.Image:
    """One edit: up to a hundred attempts without a pause."""
    payload = {"image": _png(image), "prompt": prompt, "num_inference_step": 50, "guidance_scale": 4.5, "seed": 0}
    for _ in range(EDIT_ATTEMPTS):
        try:
            reply = _post(f"{endpoints.next()}/edit", payload, EDIT_TIMEOUT_S)
            return Image.open(io.BytesIO(base64.b64decode(reply["edited_image"])))
        except Exception:  # noqa: BLE001 - the reference retries on any error
            sample.failed_requests += 1
    raise RuntimeError(f"no picture after {EDIT_ATTEMPTS} tries")


def _critique(thinker: str, original: str, prompt: str, pictures: Sequence[Path], sample: Sample) -> tuple[bool, str]:
    """Return whether the picture satisfies, and the next instruction."""
    for _ in range(CRITIQUE_ATTEMPTS):
        try:
            urls = [f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in pictures]
            content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            content.append({"type": "text", "text": f"The instruction: {original}. The rewritten one: {prompt}. Judge."})
            messages = [{"role": "user", "content": content}]
            reply = _post(f"{thinker}/chat/completions", {"model": "stub", "messages": messages}, CRITIQUE_TIMEOUT_S)
            text = reply["choices"][0]["message"]["content"]
            scores = json.loads(re.search(r"<score>(.*?)</score>", text, re.DOTALL)[1])  # type: ignore[index]
            answer = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
            refined = answer[1].strip() if answer else prompt
            good = scores["semantic"] >= GOOD_ENOUGH and scores["quality"] >= GOOD_ENOUGH
        except Exception:  # noqa: BLE001 - as above
            sample.failed_requests += 1
        else:
            return good or refined == prompt, refined
    return False, prompt


def run_sample(number: int, job: Job, folder: str) -> Sample:
    """One session, in a process of the pool."""
    sample, endpoints = Sample(number), Endpoints(job.editors)
    source_path = Path(folder) / "source.png"
    source = Image.open(source_path).convert("RGB")
    fitting = (source.width // _MULTIPLE * _MULTIPLE, source.height // _MULTIPLE * _MULTIPLE)
    resized = source.resize(fitting)
    original = prompt = str(Step(number))
    before: Path | None = None
    for turn in range(1, MOST_TURNS + 1):
        if before is not None:
            sample.satisfied, prompt = _critique(job.thinker, original, prompt, (source_path, before), sample)
            if sample.satisfied:
                break
        made = _edit(endpoints, prompt, resized, sample)
        before = Path(folder) / f"{number}-turn{turn}.png"
        made.resize(source.size).save(before)
        sample.turns = turn
    return sample


class _Memory(threading.Thread):
    """Samples the memory of this process and its children: proportional sizes, so that shared pages count once."""

    def __init__(self, result: Result) -> None:
        super().__init__(daemon=True)
        self._result = result
        self.over = threading.Event()

    def run(self) -> None:
        """Sample once a second."""
        me = psutil.Process()
        while not self.over.wait(1.0):
            children = me.children()
            total = 0
            for process in (me, *children):
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            if total / 1e6 > self._result.peak_mb:
                self._result.peak_mb, self._result.live_at_peak = total / 1e6, len(children)


def run(job: Job) -> Result:
    """Run all sessions, 128 at a time."""
    result = Result()
    watching = _Memory(result)
    watching.start()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "source.png").write_bytes(Replies(large=job.large).source)
        began = time.monotonic()
        with ProcessPoolExecutor(min(WORKERS, job.count), mp_context=multiprocessing.get_context("fork")) as pool:
            futures = {pool.submit(run_sample, number, job, folder): number for number in range(job.first, job.first + job.count)}
            for future in as_completed(futures):
                try:
                    sample = future.result()
                except Exception as exc:  # noqa: BLE001 - like the reference: note it, and continue
                    sample = Sample(futures[future], error=str(exc))
                result.samples.append(asdict(sample))
        result.wall_s = time.monotonic() - began
    watching.over.set()
    watching.join()
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result.cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in spent)
    return result


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job(**json.loads(sys.argv[1]))))))
