"""The share of a later turn's prompt in the prefix cache, by the order of the prompt's parts.

``EDITTHINKER_VLLM=… python -m tests.vllm.prefix`` serves a toy on the CPU and prints a Markdown table; it fails unless our
order finds `WANTED` of the prompt tokens of turn 2 and later in the cache, with every format and size of picture.

    ours            the fixed text and the source, then the instruction, the candidate, and the instruction it was made with
    pictures first  source, candidate, all texts: the order of the paper's own code
    naive           all texts, candidate, source

What is found does not depend on what the weights say, so a toy counts as a large model does that cuts pictures into
as many tokens. Sessions run side by side, a turn of each after the other, so a prefix has to last while others come by.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from services.protocol.critique.formats import FORMATS, FormatName
from services.protocol.critique.messages import CritiqueRequest, Picture, build
from services.protocol.critique.questions import Question, with_quality
from tests.vllm.serving import serve, write_model

WANTED = 0.45
"""Of the prompt tokens from the second turn on."""
SIZES = ((1024, 768), (1024, 1024))
SESSIONS, TURNS = 3, 4

_INSTRUCTIONS = ("make it feel like golden hour", "turn the street into a rainy evening", "a faded print from the seventies")
_LIGHTS = ("long soft shadows", "deep blue shade", "a low sun behind the roofs", "lifted blacks and pale highlights")
_Content = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """The token counts of one critique's prompt."""

    turn: int
    prompt: int
    cached: int


def _parts(content: _Content) -> tuple[_Content, dict[str, Any], dict[str, Any]]:
    source, candidate = (part for part in content if part["type"] == "image_url")
    return [part for part in content if part["type"] == "text"], source, candidate


def _naive(content: _Content) -> _Content:
    texts, source, candidate = _parts(content)
    return [*texts, candidate, source]


def _pictures_first(content: _Content) -> _Content:
    texts, source, candidate = _parts(content)
    return [source, candidate, *texts]


ORDERS: Mapping[str, Callable[[_Content], _Content]] = {
    "ours": lambda content: content,
    "pictures first": _pictures_first,
    "naive": _naive,
}


@lru_cache(maxsize=SESSIONS * 4)
def photograph(seed: tuple[int, ...], size: tuple[int, int]) -> Picture:
    """Noise at every scale, as a JPEG: about as large as a photograph, and unique."""
    random = np.random.default_rng(seed)
    layers = [
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for side in (4, 16, 64, 256)
    ]
    out = io.BytesIO()
    Image.fromarray(np.mean([np.asarray(layer) for layer in layers], axis=0).astype(np.uint8)).save(out, "JPEG", quality=90)
    return Picture(out.getvalue(), "image/jpeg")


def content_of(name: FormatName, seed: int, session: int, turn: int, size: tuple[int, int]) -> _Content:
    """The message of a turn, as the orchestrator sends it; the caller's and the turn's instruction differ, as in sessions."""
    instruction = _INSTRUCTIONS[session % len(_INSTRUCTIONS)]
    questions = with_quality(
        [
            Question("change", f"Does the picture show what was asked for: {instruction}?"),
            Question("change", "Is the change visible in the light as well as in the colours?"),
            Question("keep", "Is every person and thing where it was?"),
        ]
    )
    source, candidate = photograph((seed, session, 0), size), photograph((seed, session, turn), size)
    made_with = ", ".join((instruction, *_LIGHTS[: turn - 1]))
    request = CritiqueRequest(source, candidate, instruction, made_with, questions if name == "checklist" else ())
    content: _Content = build(request, FORMATS[name].template())[0]["content"]
    return content


def sessions(
    client: httpx.Client,
    name: FormatName,
    order: str,
    size: tuple[int, int],
    *,
    seed: int,
    count: int = SESSIONS,
    turns: int = TURNS,
) -> list[Asked]:
    """The critiques of some sessions; pictures differ by seed."""
    rows = []
    for turn in range(1, turns + 1):
        for session in range(count):
            content = ORDERS[order](content_of(name, seed, session, turn, size))
            body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 1, "temperature": 0}
            usage = client.post("/v1/chat/completions", json=body).raise_for_status().json()["usage"]
            rows.append(Asked(turn, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))
    return rows


def share(rows: Iterable[Asked]) -> float:
    """The cached part of the prompt tokens from the second turn on."""
    later = [row for row in rows if row.turn > 1]
    return sum(row.cached for row in later) / sum(row.prompt for row in later)


def main() -> int:
    """Print the table; 1 if the cached share of our order is too small."""
    too_little = []
    sys.stdout.write(f"| format | pictures | prompt tokens | {' | '.join(ORDERS)} |\n|---|---|---|{'---|' * len(ORDERS)}\n")
    with tempfile.TemporaryDirectory() as folder:
        model = write_model("qwen3_vl", Path(folder))
        with (
            serve("tiny", model, Path(folder)) as process,
            httpx.Client(base_url=process.url, timeout=300, trust_env=False) as client,
        ):
            for place, name in enumerate(FORMATS):
                for size in SIZES:
                    # Different pictures for every format and order, so that they do not share cached prefixes.
                    rows = {
                        order: sessions(client, name, order, size, seed=place * len(ORDERS) + number)  # type: ignore[arg-type]
                        for number, order in enumerate(ORDERS)
                    }
                    prompts = [row.prompt for row in rows["ours"] if row.turn > 1]
                    shares = {order: share(asked) for order, asked in rows.items()}
                    cells = " | ".join(f"{value:.1%}" for value in shares.values())
                    told = f"{min(prompts)} to {max(prompts)}"
                    sys.stdout.write(f"| `{name}` | {size[0]} x {size[1]} | {told} | {cells} |\n")
                    sys.stdout.flush()
                    if shares["ours"] < WANTED:
                        too_little.append(f"{name} at {size}: {shares['ours']:.1%}")
    if too_little:
        sys.stderr.write(f"less than {WANTED:.0%}: {'; '.join(too_little)}\n")
    return 1 if too_little else 0


if __name__ == "__main__":
    sys.exit(main())
