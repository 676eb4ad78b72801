"""An edit as server-sent events: OpenAI's, and ``image_edit.progress`` for pipelines with steps."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from services.editor.api.context import Context
from services.editor.engine.async_engine import EditedImage, EditRequest, EditTask, PartialImage
from services.errors import ApiError
from services.serving.jsonlines import sse_message

_PLAIN = {"quality": "auto", "background": "auto"}
"""OpenAI's fields that always have the same value here."""


async def events(ctx: Context, task: EditTask, arrived: float) -> AsyncIterator[bytes]:
    """Progress and partial images as they come, a completed event for each picture in order, comments during silence.

    ``arrived`` is when the request arrived, by `time.perf_counter`. A slow reader costs no memory: it receives the latest
    progress only, and partial images are few.
    """
    cursor = _Cursor(task)
    try:
        for index, image in enumerate(task.images):
            while not image.done():
                for event in cursor.new_events():
                    yield event
                if not image.done() and not cursor.behind and not await task.wait_for_change(ctx.keepalive_s):
                    yield b": keep-alive\n\n"
            for event in cursor.new_events():
                yield event
            yield _event(_completed(task.request, index, image.result(), arrived))
    except ApiError as exc:
        yield sse_message(exc.body(), event="error")
    finally:
        ctx.engine.detach(task)


class _Cursor:
    """One reader's position in a task's progress."""

    def __init__(self, task: EditTask) -> None:
        self._task = task
        self._partials = 0
        self._steps: dict[int, tuple[int, int]] = {}

    @property
    def behind(self) -> bool:
        """Whether there are events that this reader has not received."""
        return self._partials < len(self._task.partials) or self._steps != self._task.steps

    def new_events(self) -> Iterator[bytes]:
        """Events since the last call."""
        for index, steps in list(self._task.steps.items()):
            if self._steps.get(index) != steps:
                self._steps[index] = steps
                yield _event({"type": "image_edit.progress", "index": index, "step": steps[0], "steps": steps[1]})
        while self._partials < len(self._task.partials):
            partial = self._task.partials[self._partials]
            self._partials += 1
            yield _event(_partial(self._task.request, partial))


def _partial(request: EditRequest, partial: PartialImage) -> dict[str, Any]:
    return {
        "type": "image_edit.partial_image",
        "partial_image_index": partial.number,
        "b64_json": base64.b64encode(partial.data).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{partial.width}x{partial.height}",
        "output_format": request.output_format,
        **_PLAIN,
        "index": partial.index,
        "step": partial.step,
        "steps": partial.steps,
    }


def _completed(request: EditRequest, index: int, image: EditedImage, arrived: float) -> dict[str, Any]:
    return {
        "type": "image_edit.completed",
        "b64_json": base64.b64encode(image.data).decode("ascii"),
        "created_at": int(time.time()),
        "size": f"{image.width}x{image.height}",
        "output_format": request.output_format,
        **_PLAIN,
        "index": index,
        "seed": image.seed,
        "unchanged": image.unchanged,
        "applied": list(image.applied),
        "not_understood": list(image.not_understood),
        "timings": image.timings | total_ms(arrived),
    }


def total_ms(arrived: float) -> dict[str, float]:
    """Milliseconds from a request's arrival until now."""
    return {"total_ms": round((time.perf_counter() - arrived) * 1000, 3)}


def _event(data: dict[str, Any]) -> bytes:
    return sse_message(data, event=str(data["type"]))
