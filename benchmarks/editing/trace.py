"""Traces: lists of requests with arrival times, made from a seed, the same for every server."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from services.editor.pipelines import EditJob

SIZES = ((256, 256), (192, 192), (128, 128))
STEPS = (4, 8, 12, 20)
GUIDANCES = (2.5, 3.5)
LONG, SHORT = max(STEPS), min(STEPS)
_INSTRUCTIONS = (
    "make it red",
    "paint the sky blue",
    "remove the lamp",
    "as a pencil drawing",
    "at night, in the rain",
    "add snow",
)
_NEGATIVE = "blurry, ugly"
_TRUE_CFG = 4.0
_WITH_NEGATIVE = 0.25
_CANCELLED = 0.2
_SAME_SOURCE = 0.25  # share of arrivals that request two or three edits of one picture together
_MAX_GAP = 4.0
_MAX_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Request:
    """One requested edit.

    Attributes:
        number: its index in the trace.
        at: when it arrives, in mean durations of an edit alone, so that a trace is the same on every machine.
        patience: how long after that its caller cancels it; None: never.
        source: which picture.
    """

    number: int
    at: float
    steps: int
    size: tuple[int, int]
    guidance: float
    negative: bool
    source: int
    prompt: str
    patience: float | None = None

    @property
    def calls(self) -> int:
        """Calls of the denoiser that it takes."""
        return self.steps * (2 if self.negative else 1)

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for requests that a plain pipeline can run as one list."""
        return (self.steps, self.size, self.guidance, self.negative)

    def job(self) -> EditJob:
        """The job for the editor."""
        parameters = {"num_inference_steps": float(self.steps), "guidance_scale": self.guidance}
        if self.negative:
            parameters["true_cfg_scale"] = _TRUE_CFG
        return EditJob(
            picture(self.source),
            self.prompt,
            seed=self.number,
            negative_prompt=_NEGATIVE if self.negative else None,
            size=self.size,
            parameters=parameters,
            source=f"picture {self.source}",
        )


def mixed(seed: int, count: int) -> list[Request]:
    """``count`` Poisson arrivals of mixed edits, on average one for each mean duration of an edit."""
    dice = random.Random(seed)
    requests: list[Request] = []
    at, source = 0.0, 0
    while len(requests) < count:
        source += 1
        together = dice.choice((2, 3)) if dice.random() < _SAME_SOURCE else 1
        # The gap is proportional to the number that arrived together, so that the load does not depend on it.
        at += sum(min(dice.expovariate(1.0), _MAX_GAP) for _ in range(together)) if requests else 0.0
        first = _request(dice, len(requests), at, source)
        for _ in range(min(together, count - len(requests))):
            requests.append(_variant(dice, first, len(requests)))
    return requests


def _request(dice: random.Random, number: int, at: float, source: int) -> Request:
    return Request(
        number,
        at,
        steps=dice.choice(STEPS),
        size=dice.choice(SIZES),
        guidance=dice.choice(GUIDANCES),
        negative=dice.random() < _WITH_NEGATIVE,
        source=source,
        prompt="",
    )


def _variant(dice: random.Random, first: Request, number: int) -> Request:
    """The same picture with another instruction, seed and patience."""
    prompt = f"{dice.choice(_INSTRUCTIONS)}, number {dice.randrange(1000)}"
    patience = dice.uniform(0.0, _MAX_PATIENCE) if dice.random() < _CANCELLED else None
    return replace(first, number=number, prompt=prompt, patience=patience)


def burst(long: int, short: int) -> list[Request]:
    """Long edits, and short ones that arrive one after another while the long ones run."""
    first = [_plain(number, 0.0, LONG, prompt=f"long {number}") for number in range(long)]
    return first + [_plain(long + place, 0.4 + 0.1 * place, SHORT, prompt=f"short {place}") for place in range(short)]


def _plain(number: int, at: float, steps: int, prompt: str) -> Request:
    return Request(number, at, steps, SIZES[0], GUIDANCES[1], negative=False, source=1000 + number, prompt=prompt)


def rehearsal(trace: Sequence[Request]) -> list[Request]:
    """One request of each size, with and without a negative prompt, to warm a server up."""
    shapes = sorted({(request.size, request.negative) for request in trace})
    return [
        Request(-1 - place, 0.0, 2, size, GUIDANCES[0], negative, source=-1 - place, prompt="warm up")
        for place, (size, negative) in enumerate(shapes)
    ]


@functools.lru_cache(maxsize=512)
def picture(source: int) -> Image.Image:
    """A distinct picture for each number: large soft patches of colour with a little grain."""
    dice = np.random.default_rng(abs(source) * 2 + (source < 0))
    patches = Image.fromarray(dice.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(SIZES[0], Image.Resampling.BICUBIC)
    grain = dice.integers(-12, 13, (*SIZES[0][::-1], 3))
    return Image.fromarray((np.asarray(patches).astype(int) + grain).clip(0, 255).astype(np.uint8))
