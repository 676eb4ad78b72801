"""A fleet of editor workers and a thinker in one process, so that sixteen workers do not cost sixteen interpreters.

Each worker has a port, slots and a bounded queue, and answers like ours: 429 with ``Retry-After`` when full, repeats of an
``Idempotency-Key`` joined to their work, and `timings`. It stops an edit whose callers have disconnected. ``/edit`` is the
reference's endpoint, whose servers never stop an edit. All work is recorded in a journal.

``python -m benchmarks.scale.stubs '{"control": PORT, "thinker": PORT, "front": PORT, "workers": [PORT, …], …}'``
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field

from aiohttp import web

from benchmarks.scale import front
from benchmarks.scale.draws import Draws, Step, last_step
from benchmarks.scale.journal import Work
from benchmarks.scale.pictures import Replies

_MOST_BYTES = 1 << 28
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """Configuration of the process.

    Attributes:
        front: port of the reference's round robin.
        slots: edits at a time, per worker.
        queue: edits that may be queued, per worker.
    """

    control: int
    thinker: int
    front: int
    workers: list[int]
    slots: int = 2
    queue: int = 64
    large: bool = False
    seed: int = 1
    scale: float = 1.0


@dataclass(slots=True, eq=False)
class Run:
    """An edit and the number of its callers."""

    task: asyncio.Task[Work]
    callers: int = 0


@dataclass(eq=False)
class Worker:
    """One editor worker."""

    number: int
    plan: Plan
    draws: Draws
    replies: Replies
    journal: list[Work]
    waiting: int = 0
    runs: dict[str, Run] = field(default_factory=dict)
    tasks: set[asyncio.Task[Work]] = field(default_factory=set)
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        self.free_slots = asyncio.Semaphore(self.plan.slots)
        routes = [
            web.post("/v1/images/edits", self.edits),
            web.post("/edit", self.reference),
            *(web.get(path, _empty) for path in ("/v1/models", "/readyz", "/health", "/healthz")),
        ]
        self.runner = await _listen(routes, self.plan.workers[self.number])

    async def kill(self) -> None:
        """Behave like a process after kill -9: close connections, drop work, stop listening."""
        runner, self.runner = self.runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        for connection in runner.server.connections if runner.server else ():
            if connection.transport:
                connection.transport.abort()
        for task in self.tasks:
            task.cancel()
        self.runs.clear()

    async def edits(self, request: web.Request) -> web.Response:
        """OpenAI's endpoint, as our workers serve it."""
        began = time.time()
        step = last_step(await request.read())
        key = request.headers.get("idempotency-key", "")
        run = self.runs.get(key)
        headers = {"Idempotent-Replayed": "true"} if run else {}
        if run is None:
            if self.waiting >= self.plan.queue:
                return self._full()
            run = self._begin(step)
            if key:
                self._keep(key, run)
        work = await self._attend(run, key)
        assert work.end is not None
        timings = {"queue_ms": work.begin - began, "edit_ms": work.end - work.begin, "total_ms": time.time() - began}
        rounded = json.dumps({name: round(1000 * max(0.0, value), 3) for name, value in timings.items()})
        pieces = self.replies.next(), rounded.encode()
        body = b'{"created":0,"data":[{"b64_json":"%b","unchanged":false}],"timings":%b}' % pieces
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def reference(self, request: web.Request) -> web.Response:
        """The reference's endpoint, whose servers finish every edit, and answer 500 when their queue is full."""
        data = await request.read()
        step = last_step(data)
        if self.waiting >= self.plan.queue:
            return web.json_response({"detail": "the task queue is full"}, status=500)
        work = await asyncio.shield(self._begin(step).task)
        work.delivered = True
        # The source is returned with the result, as theirs do.
        source = data[(at := data.index(b'"image": "') + 10) : data.index(b'"', at)]
        parts = (b'{"success":true,"gpu_id":0,"original_image":"', source, b'","edited_image":"', self.replies.next(), b'"}')
        return web.Response(body=b"".join(parts), content_type="application/json")

    def _begin(self, step: Step) -> Run:
        task = asyncio.create_task(self._work(step))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return Run(task)

    async def _work(self, step: Step) -> Work:
        self.waiting += 1
        try:
            await self.free_slots.acquire()
        finally:
            self.waiting -= 1
        work = Work(self.number, str(step), time.time())
        self.journal.append(work)
        try:
            await asyncio.sleep(self.draws.edit_s(step))
        finally:
            work.end = time.time()
            self.free_slots.release()
        return work

    async def _attend(self, run: Run, key: str) -> Work:
        """Wait for a run; the last caller to disconnect stops it."""
        run.callers += 1
        try:
            work = await asyncio.shield(run.task)
            work.delivered = True
        finally:
            run.callers -= 1
            if not run.callers and not run.task.done():
                run.task.cancel()
                if self.runs.get(key) is run:
                    del self.runs[key]
        return work

    def _keep(self, key: str, run: Run) -> None:
        self.runs[key] = run
        while len(self.runs) > _KEPT:
            del self.runs[next(iter(self.runs))]

    def _full(self) -> web.Response:
        error = {"message": "the queue is full", "type": "rate_limit_error", "param": None, "code": "overloaded"}
        wait = max(1, round(self.waiting * self.draws.scale * self.draws.median_s / self.plan.slots))
        return web.json_response({"error": error}, status=429, headers={"Retry-After": str(wait)})


async def _empty(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": []})


async def _listen(routes: list[web.RouteDef], port: int) -> web.AppRunner:
    app = web.Application(client_max_size=_MOST_BYTES)
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner


def _thinker(draws: Draws) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def completions(request: web.Request) -> web.Response:
        step = last_step(await request.read())
        await asyncio.sleep(draws.critique_s(step))
        message = {"role": "assistant", "content": draws.critique(step)}
        usage = {"prompt_tokens": 2000, "completion_tokens": 200, "total_tokens": 2200}
        return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})

    return completions


def _control(workers: list[Worker], journal: list[Work]) -> list[web.RouteDef]:
    async def read(_: web.Request) -> web.Response:
        return web.json_response([asdict(work) for work in journal])

    async def forget(_: web.Request) -> web.Response:
        journal[:] = [work for work in journal if work.end is None]
        return web.Response()

    async def kill(request: web.Request) -> web.Response:
        await workers[int(request.query["worker"])].kill()
        return web.Response()

    async def start(request: web.Request) -> web.Response:
        await workers[int(request.query["worker"])].start()
        return web.Response()

    return [
        web.get("/journal", read),
        web.delete("/journal", forget),
        web.post("/kill", kill),
        web.post("/start", start),
        web.get("/readyz", _empty),
    ]


async def serve(plan: Plan, absent: frozenset[int] = frozenset()) -> None:
    """Serve until the process ends; absent workers start on request."""
    draws, replies, journal = Draws(plan.seed, plan.scale), Replies(large=plan.large), list[Work]()
    workers = [Worker(number, plan, draws, replies, journal) for number in range(len(plan.workers))]
    for worker in workers:
        if worker.number not in absent:
            await worker.start()
    await _listen([web.post("/v1/chat/completions", _thinker(draws)), web.get("/v1/models", _empty)], plan.thinker)
    async with await front.serve(plan.front, plan.workers):
        await _listen(_control(workers, journal), plan.control)
        await asyncio.Event().wait()


def main() -> None:
    """Run with the plan as the only argument."""
    given = json.loads(sys.argv[1])
    absent = frozenset(given.pop("absent", ()))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Plan(**given), absent))


if __name__ == "__main__":
    main()
