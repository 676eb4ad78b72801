"""One pair sent through the stack over HTTP, and what its caller is told in the end."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from benchmarks.colorimetry import Pixels
from benchmarks.honesty.pairs import Pair, photo
from editthinker import EditThinker
from editthinker.client import APIStatusError, EditThinkerError, RateLimitError, Session

Told = Literal["satisfied", "unchanged", "refused", "unsatisfied", "error"]
"""What the caller is told: done; nothing was changed; this cannot be done, and why; here is a picture that is not good enough; or
that something broke."""

_SENTENCE_WORDS: Final = 4
_MACHINE: Final = re.compile(
    r"https?://|\bHTTP\b|Traceback|\w+(Error|Exception)\b|\bstatus \d|[{}<>]|\b(editor|thinker) (answered|returned|replied)\b"
)
"""What is for operators, not for the person who asked for an edit."""
_QUOTED: Final = re.compile("“[^”]*”")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended.

    Attributes:
        pixels: the answer; None when there is none.
        message: of the error, when there was one.
    """

    told: Told
    finish_reason: str = ""
    semantic: float | None = None
    quality: float | None = None
    message: str = ""
    pixels: Pixels | None = None
    turns: int = 0
    seconds: float = 0.0


def ask(client: EditThinker, pair: Pair, seed: int) -> Outcome:
    """Send a pair with the server's defaults, as ``editthinker edit`` does, and wait for the end."""
    started = time.perf_counter()
    try:
        session = client.sessions.create(encoded(photo(pair.photo, pair.side).pixels), pair.instruction, seed=seed)
        session = client.sessions.wait(session.id)
        answer = None if session.best is None else decoded(client.sessions.image(session.id, format="png"))
    except APIStatusError as exc:
        # A server that is busy or broken has not refused the instruction.
        denied = exc.status < 500 and not isinstance(exc, RateLimitError) and is_sentence(exc.message)
        return Outcome("refused" if denied else "error", message=exc.message, seconds=time.perf_counter() - started)
    except (EditThinkerError, ValueError) as exc:
        return Outcome("error", message=f"{type(exc).__name__}: {exc}", seconds=time.perf_counter() - started)
    return ended(session, answer, time.perf_counter() - started)


def ended(session: Session, answer: Pixels | None, seconds: float = 0.0) -> Outcome:
    """What a session that has ended tells."""
    message = session.error.message if session.error else ""
    return Outcome(
        told=_told(session, message, has_picture=answer is not None),
        finish_reason=session.finish_reason or session.status,
        semantic=session.scores.semantic if session.scores else None,
        quality=session.scores.quality if session.scores else None,
        message=message,
        pixels=answer,
        turns=session.totals.turns,
        seconds=seconds,
    )


def _told(session: Session, message: str, *, has_picture: bool) -> Told:
    if session.status == "failed":
        return "refused" if is_sentence(message) else "error"
    if session.finish_reason == "unchanged":
        return "unchanged"
    if not has_picture:
        return "error"
    return "satisfied" if session.finish_reason == "satisfied" else "unsatisfied"


def is_sentence(message: str) -> bool:
    """Whether a message is a sentence for a person, and not a status, a trace or a list of codes."""
    own = _QUOTED.sub("“”", message)  # what it quotes are the caller's words
    return len(own.split()) >= _SENTENCE_WORDS and _MACHINE.search(own) is None


def encoded(pixels: Pixels) -> bytes:
    """The picture as PNG."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def decoded(image: bytes) -> Pixels:
    """The pixels of an encoded picture.

    Raises:
        ValueError: when it is none.
    """
    picture = cv2.imdecode(np.frombuffer(image, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("the answer is not a picture")
    return np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)
