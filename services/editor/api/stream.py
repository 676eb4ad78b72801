"""An edit as server-sent events: OpenAI's, and ``image_edit.progress`` for pipelines with steps."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from services.editor.api.context import Context
from services.editor.engine.run import Edited, Order, Partial, Run
from services.errors import ApiError
from services.serving.jsonlines import sse_message

_PLAIN = {"quality": "auto", "background": "auto"}
"""OpenAI's fields that have one value here."""


async def events(ctx: Context, run: Run, arrived: float) -> AsyncIterator[bytes]:
    """Progress and partial images as they come, a completed event for each picture in order, comments in silence.

    ``arrived`` is when the request came, by `time.perf_counter`. A slow reader costs no memory: of progress it sees the latest,
    and partial images are few.
    """
    cursor = _Cursor(run)
    try:
        for place, image in enumerate(run.images):
            while not image.done():
                for event in cursor.news():
                    yield event
                if not image.done() and not cursor.behind and not await run.change(ctx.keepalive_s):
                    yield b": keep-alive\n\n"
            for event in cursor.news():
                yield event
            yield _event(_completed(run.order, place, image.result(), arrived))
    except ApiError as exc:
        yield sse_message(exc.body(), event="error")
    finally:
        ctx.runs.leave(run)


class _Cursor:
    """What of a run's news one reader has seen."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._partials = 0
        self._steps: dict[int, tuple[int, int]] = {}

    @property
    def behind(self) -> bool:
        """Whether something came while the last news were being sent."""
        return self._partials < len(self._run.partials) or self._steps != self._run.steps

    def news(self) -> Iterator[bytes]:
        """Events for what came since the last call."""
        for place, steps in list(self._run.steps.items()):
            if self._steps.get(place) != steps:
                self._steps[place] = steps
                yield _event({"type": "image_edit.progress", "index": place, "step": steps[0], "steps": steps[1]})
        while self._partials < len(self._run.partials):
            partial = self._run.partials[self._partials]
            self._partials += 1
            yield _event(_partial(self._run.order, partial))


def _partial(order: Order, partial: Partial) -> dict[str, Any]:
    return {
        "type": "image_edit.partial_image",
        "partial_image_index": partial.number,
        "b64_json": base64.b64encode(partial.data).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{partial.width}x{partial.height}",
        "output_format": order.output_format,
        **_PLAIN,
        "index": partial.place,
        "step": partial.step,
        "steps": partial.steps,
    }


def _completed(order: Order, place: int, image: Edited, arrived: float) -> dict[str, Any]:
    return {
        "type": "image_edit.completed",
        "b64_json": base64.b64encode(image.data).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{image.width}x{image.height}",
        "output_format": order.output_format,
        **_PLAIN,
        "index": place,
        "seed": image.seed,
        "applied": list(image.applied),
        "not_understood": list(image.not_understood),
        "timings": image.timings | total_ms(arrived),
    }


def total_ms(arrived: float) -> dict[str, float]:
    """From a request's arrival until now: what its caller waited beyond that, it did not wait for this worker."""
    return {"total_ms": round((time.perf_counter() - arrived) * 1000, 3)}


def _event(data: dict[str, Any]) -> bytes:
    return sse_message(data, event=str(data["type"]))
