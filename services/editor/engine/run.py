"""One request's work as its callers see it: what was ordered, how far it is, what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from services.editor.engine.tickets import Ticket
from services.imaging.codec import OutputFormat


@dataclass(frozen=True, slots=True)
class Order:
    """What one request asks for, checked but not yet decoded.

    ``seeds`` has one for each picture to return; ``size`` is (width, height) or None for the source's; ``source`` names the
    picture's content; ``urgency`` counts head starts in line; ``previews`` unfinished pictures of each edit.
    ``fingerprint`` is equal for equal requests.
    """

    image: bytes
    mask: bytes | None
    prompt: str
    negative_prompt: str | None
    seeds: tuple[int, ...]
    size: tuple[int, int] | None
    parameters: dict[str, float]
    output_format: OutputFormat
    output_compression: int | None
    fingerprint: str
    source: str
    previews: int = 0
    urgency: int = 0


@dataclass(frozen=True, slots=True)
class Edited:
    """One encoded picture and the account of its edit; durations in milliseconds."""

    data: bytes
    width: int
    height: int
    seed: int
    applied: tuple[str, ...]
    not_understood: tuple[str, ...]
    timings: dict[str, float]


@dataclass(frozen=True, slots=True)
class Partial:
    """An unfinished picture: of which edit of the request, its number there, after how many steps, encoded."""

    place: int
    number: int
    step: int
    steps: int
    data: bytes
    width: int
    height: int


class Run:
    """One request's work.

    Its pictures arrive one by one in ``images``; ``accepted`` is done when it is in line. ``inside`` tells whether it holds
    places of the executor, ``held`` whether it is set aside because everybody left.
    """

    def __init__(self, order: Order, key: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.order = order
        self.key = key
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.images: list[asyncio.Future[Edited]] = [loop.create_future() for _ in order.seeds]
        self.tickets: list[Ticket] = []
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0
        self.inside = False
        self.held = False
        self.outcome = "ok"
        self.partials: list[Partial] = []
        self.steps: dict[int, tuple[int, int]] = {}
        self._changed = asyncio.Event()
        futures: list[asyncio.Future[Any]] = [self.accepted, *self.images]
        for future in futures:
            # Nobody may be left to read an error; asyncio would log it as forgotten.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            future.add_done_callback(lambda _: self._tell())

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.task is None or self.task.done()

    def progressed(self, place: int, steps: tuple[int, int]) -> None:
        """An edit of the request is so many steps of so many further."""
        self.steps[place] = steps
        self._tell()

    def previewed(self, place: int, steps: tuple[int, int], data: bytes, size: tuple[int, int]) -> None:
        """An unfinished picture is encoded; too late if the finished one is there."""
        if self.images[place].done():
            return
        number = sum(partial.place == place for partial in self.partials)
        self.partials.append(Partial(place, number, *steps, data, *size))
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def change(self, timeout_s: float) -> bool:
        """Wait until something happens; False if nothing did for so long."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Give the error to whoever still waits for something."""
        futures: list[asyncio.Future[Any]] = [self.accepted, *self.images]
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def drop_tickets(self) -> None:
        """Stop what is still under way on the executor, before its next step."""
        for ticket in self.tickets:
            ticket.answer.cancel()

    def slim(self) -> None:
        """Drop everything but the answer and what tells a repeat from another request; only when the task is through."""
        self.tickets = []
        self.partials = []
        self.order = replace(self.order, image=b"", mask=None, prompt="", negative_prompt=None)

    @property
    def weight(self) -> int:
        """Bytes that keeping this run's pictures costs."""
        return sum(len(image.result().data) for image in self.images)

    @property
    def succeeded(self) -> bool:
        """Whether every picture is there."""
        return all(image.done() and not image.cancelled() and image.exception() is None for image in self.images)
