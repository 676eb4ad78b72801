"""What drafts and early rejection save: editor seconds and the score of the answer, over a real diffusion pipeline.

    python -m benchmarks.drafts                  # 12 sessions of each way
    python -m benchmarks.drafts --sessions 40    # narrower intervals

The worker runs a diffusers pipeline of a tiny model with random weights on the CPU; the orchestrator, its store and `decide` are
real too. Every case is run as today, with `draft`, with `reject_early`, and with both; no session is satisfied, so that all have
the same number of turns.

Random weights follow no instruction. The target is therefore a mean colour, one of those that the pipeline makes, and a score is
how near a picture's mean colour is to it. Other words and other seeds give other colours, so a session is a search among
pictures, as it is with a real model. The judge is that measure with noise; the independent score is the measure alone, of the
answer.

This shows what the mechanism costs and saves, and how far a draft and an unfinished picture of *this* pipeline agree with the
finished one, which is printed first. It does not show how far those of published weights agree, how well a model judges an
unfinished picture, or what refining an instruction is worth: here it is another try.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import math
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.native_size import cpu_s
from benchmarks.policies import mean, ratio
from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique, read
from services.protocol.critique.prompts import Template
from tests.doubles.diffusion import png, source, worker
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import serving

WAYS: Final[dict[str, dict[str, str]]] = {
    "as today": {},
    "draft": {"draft": "true"},
    "reject_early": {"reject_early": "true"},
    "both": {"draft": "true", "reject_early": "true"},
}
_WORDS: Final = ("warm", "cold", "bright", "dark", "soft", "sharp", "calm", "wild", "old", "new", "red", "blue", "green", "pale")
_POINTS: Final = 2.5
"""Points of 10 that a picture loses for each deviation of the pipeline's colours by which it is off."""

_GUIDED: Final = {"true_cfg_scale": "20", "negative_prompt": "plain"}
"""Random text encoders tell words apart so little that without guidance another instruction hardly changes the picture."""

Colour = npt.NDArray[np.float64]
"""Mean red, green and blue of a picture, in levels."""


def colour(data: bytes) -> Colour:
    """A picture's mean colour."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float64)
    return np.asarray(pixels.mean(axis=(0, 1)))


def words(*seed: object) -> str:
    """Some words that an edit is made with."""
    return " ".join(random.Random(repr(seed)).sample(_WORDS, 4))


@dataclass(frozen=True, slots=True)
class Measure:
    """The independent score: how near a picture's mean colour is to what a case wants.

    Attributes:
        made: colours that the pipeline makes of other words and seeds.
        spread: their deviation, in levels.
    """

    made: Colour
    spread: Colour

    def target(self, case: int) -> Colour:
        """The colour that a case wants: one that can be made."""
        return np.asarray(self.made[case % len(self.made)])

    def score(self, case: int, data: bytes) -> float:
        """0 to 10; the root mean square over the channels counts."""
        off = (colour(data) - self.target(case)) / self.spread
        return float(max(0.0, 10.0 - _POINTS * math.sqrt(float((off**2).mean()))))


def thinker(measure: Callable[[], Measure], noise: float) -> Starlette:
    """A judge that sees the measure with `noise` (points of 10, the same for the same picture), and proposes other words."""

    async def completions(request: Request) -> JSONResponse:
        asked = read((await request.json())["messages"], [Template.named("editthinker")])
        case = _case_of(asked.instruction)
        seen = measure().score(case, asked.candidate.data) + random.Random(asked.candidate.data).gauss(0, noise)
        seen = round(min(9.9, max(0.0, seen)), 2)  # below the threshold, so that no session ends early
        critique = Critique(seen, seen, "", f"case {case}: {words(asked.turn_instruction)}")
        message = {"role": "assistant", "content": FORMATS["editthinker"].bind().render(critique)}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": []})

    return Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"]), Route("/v1/models", models)])


def _case_of(instruction: str) -> int:
    found = re.match(r"case (\d+):", instruction)
    assert found
    return int(found[1])


def calibrate(editor: Process, image: bytes, options: argparse.Namespace) -> tuple[Measure, dict[str, float]]:
    """What the pipeline makes of other words and seeds, and the correlations of drafts' and unfinished pictures' colours with
    those of the finished ones, as a mean of the three channels.
    """
    seen: dict[str, list[Colour]] = {"finished": [], "draft": [], "unfinished": []}
    with httpx.Client(base_url=editor.url, timeout=900, trust_env=False) as http:
        for number in range(options.calibration):
            fields = {**_GUIDED, "prompt": words("calibration", number), "seed": str(1000 + number // 2)}
            streamed = fields | {"stream": "true", "partial_images": "2"}
            lines = http.post("/v1/images/edits", data=streamed, files={"image": image}).text.splitlines()
            events = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
            pictures = [event["b64_json"] for event in events if event["type"] != "image_edit.progress"]
            draft = http.post("/v1/images/edits", data=fields | {"draft": "true"}, files={"image": image}).json()
            named = {"unfinished": pictures[0], "finished": pictures[-1], "draft": draft["data"][0]["b64_json"]}
            for name, text in named.items():
                seen[name].append(colour(base64.b64decode(text)))
    made = {name: np.array(colours) for name, colours in seen.items()}
    finished = made["finished"]
    agreements = {
        name: float(np.mean([np.corrcoef(finished[:, each], made[name][:, each])[0, 1] for each in range(3)]))
        for name in ("draft", "unfinished")
    }
    return Measure(finished, finished.std(axis=0)), agreements


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one session took and brought.

    Attributes:
        editor_s: editor seconds by the session's totals.
        cpu_s: CPU seconds of the worker, which other work on the machine changes less.
        score: the independent score of the answer.
        rejected: edits that were stopped.
        after: the independent score of what would be the answer after each turn.
    """

    editor_s: float
    cpu_s: float
    score: float
    rejected: int
    after: tuple[float, ...]


def session(http: httpx.Client, editor: Process, measure: Measure, case: int, image: bytes, fields: dict[str, str]) -> Outcome:
    """One session to its end."""
    before = cpu_s(editor)
    given = {"prompt": f"case {case}: {words('first', case)}", "seed": str(case), **_GUIDED, **fields}
    shown = http.post("/v1/sessions", data=given, files={"image": image}, headers={"prefer": "wait=600"}).json()
    assert shown["status"] == "succeeded", shown
    spent = cpu_s(editor) - before
    made = [candidate for turn in shown["turns"] for candidate in turn["candidates"]]
    after: list[float] = []
    judged = -1.0
    for candidate in made:
        if candidate["image"] and candidate["scores"] and candidate["scores"]["overall"] > judged:
            judged = candidate["scores"]["overall"]
            after.append(measure.score(case, http.get(candidate["image"]["url"]).content))
        else:
            after += after[-1:]
    answer = measure.score(case, http.get(shown["urls"]["image"]).content)
    rejected = sum(candidate["status"] == "rejected" for candidate in made)
    return Outcome(shown["totals"]["editor_seconds"], spent, answer, rejected, tuple(after))


@contextmanager
def orchestrator(folder: Path, redis: Process, editor: Process, thinker_url: str) -> Iterator[httpx.Client]:
    """A client of one that knows what the editor takes. It trusts single scores."""
    env = {
        "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "EDITTHINKER_BLOBS": str(folder / "blobs"),
        "EDITTHINKER_EDITORS": json.dumps({"tiny": {"url": f"{editor.url}/v1", "parameters": list(_GUIDED)}}),
        "EDITTHINKER_THINKERS": json.dumps({"measure": {"url": f"{thinker_url}/v1", "model": "measure"}}),
        "EDITTHINKER_CONFIRMATIONS": "0",
        "EDITTHINKER_JUDGE_CHECK": "off",
    }
    process = module("orchestrator", free_port(), folder / "log-orchestrator", env=env)
    try:
        wait_ready(process)
        with httpx.Client(base_url=process.url, timeout=900, trust_env=False) as http:
            while http.get("/v1/models/tiny").json().get("previews") is None:
                time.sleep(0.2)
            yield http
    finally:
        process.stop()


def equal(today: Sequence[Outcome], score: float) -> float | None:
    """The share of today's turns after which today's answers have this score on average, between turns in a straight line; None
    where they never have.
    """
    turns = min(len(outcome.after) for outcome in today)
    means = [mean([outcome.after[turn] for outcome in today])[0] for turn in range(turns - 1)]
    means.append(mean([outcome.score for outcome in today])[0])
    if score <= means[0]:
        return 1 / turns
    for turn, (less, more) in enumerate(itertools.pairwise(means), 1):
        if less < score <= more:
            return (turn + (score - less) / (more - less)) / turns
    return None


def table(results: dict[str, list[Outcome]]) -> Table:
    """Means with 95 % intervals. Ratios are to today's, score differences are of the same cases."""
    shown = Table(show_edge=False, pad_edge=False)
    for name in ("way", "editor s", "CPU s", "score", "stopped", "ratio of editor s", "ratio of CPU s", "score against today's"):
        shown.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    shown.add_column("CPU s against today's at that score", justify="right")
    today = results["as today"]
    for way, outcomes in results.items():
        columns = [[each.editor_s for each in outcomes], [each.cpu_s for each in outcomes], [each.score for each in outcomes]]
        columns.append([float(each.rejected) for each in outcomes])
        against = [
            ratio([each.editor_s for each in outcomes], [each.editor_s for each in today]),
            ratio([each.cpu_s for each in outcomes], [each.cpu_s for each in today]),
            mean([each.score - other.score for each, other in zip(outcomes, today, strict=True)]),
        ]
        cells = [f"{middle:.2f} ±{width:.2f}" for middle, width in (*map(mean, columns), *against)]
        share = equal(today, mean(columns[2])[0])
        shown.add_row(way, *cells, "never as good" if share is None else f"{against[1][0] / share:.2f}")
    return shown


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(prog="drafts", description="what drafts and early rejection save")
    parser.add_argument("--sessions", type=int, default=12, metavar="N", help="sessions of each way (12)")
    parser.add_argument("--turns", type=int, default=5, help="turns of each session (5)")
    parser.add_argument("--family", default="kontext")
    parser.add_argument("--pixels", type=int, default=256 * 256, help="the working area (65,536)")
    parser.add_argument("--noise", type=float, default=0.5, help="deviation of the judge's scores, in points of 10 (0.5)")
    parser.add_argument("--calibration", type=int, default=16, help="edits from which the colours are learnt (16)")
    options = parser.parse_args(argv)
    began, image = time.perf_counter(), png(source(3, (512, 512)))
    fields = {"max_turns": str(options.turns), "patience": str(options.turns), "deadline_s": "3000"}
    fields |= {"semantic_threshold": "10", "quality_threshold": "10"}
    results: dict[str, list[Outcome]] = {way: [] for way in WAYS}
    learnt: list[Measure] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(redis_server(folder))
        editor = stack.enter_context(worker(options.family, folder, pixels=options.pixels, max_batch=1))
        judge = stack.enter_context(serving(thinker(lambda: learnt[0], options.noise)))
        http = stack.enter_context(orchestrator(folder, redis, editor, judge))
        measure, agreements = calibrate(editor, image, options)
        learnt.append(measure)
        for case in range(options.sessions):
            for way, more in WAYS.items():
                results[way].append(session(http, editor, measure, case, image, {**fields, **more}))
    console = Console(width=None if sys.stdout.isatty() else 170)
    off = ", ".join(f"{name} {value:.2f}" for name, value in agreements.items())
    console.print(f"correlation with the finished picture's colour over {options.calibration} edits: {off}")
    console.print(table(results))
    console.print(f"{options.sessions} sessions of each way; wall time {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
