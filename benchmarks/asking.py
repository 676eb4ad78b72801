"""One case sent to the stack over its HTTP API."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import httpx
import numpy as np

from benchmarks.cases import Case
from benchmarks.colorimetry import Pixels
from benchmarks.photos import photo

Strategy = Literal["single", "best_of_n", "think", "think_best_of_n", "adaptive"]
STRATEGIES: tuple[Strategy, ...] = ("single", "best_of_n", "think", "think_best_of_n", "adaptive")
SHAPES: dict[Strategy, tuple[int, int]] = {"think_best_of_n": (5, 2), "adaptive": (8, 1), "think": (5, 1)}
"""Turns and candidates of sessions that stop by themselves: the server's defaults."""

# Only a perfect score ends a session early, and patience covers all its turns, so that every edit is used.
THRESHOLD = 10
MAX_ATTEMPTS = 4
BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Answer:
    """The reply to one case; on an error or a refusal, `pixels` is None.

    Attributes:
        refused: the editor's sentence, where it refuses the instruction before the first edit: an answer, and no picture.
        error: of a request that failed.
    """

    pixels: Pixels | None
    edits: int = 0
    turns: int = 0
    finish_reason: str = ""
    overall: float | None = None
    editor_seconds: float = 0.0
    thinker_seconds: float = 0.0
    session_id: str = ""
    seconds: float = 0.0
    refused: str = ""
    error: str = ""


class RefusedError(Exception):
    """The editor refuses the instruction before the first edit; the message is its sentence."""


def form(strategy: Strategy, edits: int, seed: int, *, stopping: bool = False) -> dict[str, str]:
    """The form fields that give a strategy exactly `edits` edits (single: one; two candidates a turn: the even number below).

    Args:
        stopping: at most so many edits instead; thresholds and patience are the server's.
    """
    fields = {"strategy": strategy, "seed": str(seed), "response_format": "b64_json"}
    if stopping:
        turns, candidates = SHAPES.get(strategy, (1, edits if strategy == "best_of_n" else 1))
        return fields | {"max_turns": str(turns), "candidates": str(candidates), "budget_edits": str(edits)}
    turns, candidates = {
        "single": (1, 1),
        "best_of_n": (1, edits),
        "think_best_of_n": (max(1, edits // 2), min(2, edits)),
    }.get(strategy, (edits, 1))
    return fields | {
        "max_turns": str(turns),
        "candidates": str(candidates),
        "semantic_threshold": str(THRESHOLD),
        "quality_threshold": str(THRESHOLD),
        "patience": str(edits),
    }


def ask(client: httpx.Client, case: Case, fields: dict[str, str]) -> Answer:
    """Send the photograph, the instruction and the fields of `form`; wait for the picture."""
    started = time.perf_counter()
    try:
        body = _post(client, case, fields)
        pixels = _decoded(body["data"][0]["b64_json"], photo(case.photo).pixels.shape)
        overall, totals = (body.get("scores") or {}).get("overall"), body.get("totals") or {}
        answer = Answer(
            pixels=pixels,
            edits=int(body["edits"]),
            turns=int(body["turns"]),
            finish_reason=str(body.get("finish_reason", "")),
            overall=None if overall is None else float(overall),
            editor_seconds=float(totals.get("editor_seconds", 0.0)),
            thinker_seconds=float(totals.get("thinker_seconds", 0.0)),
            session_id=str(body.get("session_id", "")),
            seconds=time.perf_counter() - started,
        )
    except RefusedError as refusal:
        return Answer(None, seconds=time.perf_counter() - started, refused=str(refusal))
    except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
        return Answer(None, seconds=time.perf_counter() - started, error=f"{type(error).__name__}: {error}")
    return answer


def _post(client: httpx.Client, case: Case, fields: dict[str, str]) -> dict[str, Any]:
    """POST, with retries while the server is busy; other errors are raised with the server's message."""
    image = {"image": (f"{case.photo}.png", _encoded(photo(case.photo).pixels), "image/png")}
    for attempt in range(1, MAX_ATTEMPTS + 1):
        response = client.post("/v1/images/edits", data=fields | {"prompt": case.instruction}, files=image)
        if response.status_code not in BUSY or attempt == MAX_ATTEMPTS:
            break
        time.sleep(min(_retry_after(response, attempt), 30.0))
    if response.is_error:
        if message := _refusal(response):
            raise RefusedError(message)
        raise ValueError(f"HTTP {response.status_code}: {response.text[:300]}")
    body = response.json()
    if not isinstance(body, dict):
        raise TypeError("the reply is not a JSON object")
    return body


def _refusal(response: httpx.Response) -> str:
    """What an editor that refuses the instruction says, if that is what the response is."""
    try:
        error = response.json()["error"]
        return str(error["message"]) if error["code"] == "editor_refused" else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _retry_after(response: httpx.Response, attempt: int) -> float:
    try:
        return float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return 2.0**attempt


def _encoded(pixels: Pixels) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def _decoded(text: str, shape: tuple[int, ...]) -> Pixels:
    """The picture in the reply, at the source's size."""
    raw = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    picture = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("the reply is not a picture")
    if picture.shape[:2] != shape[:2]:
        picture = cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)
