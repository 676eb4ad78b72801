"""Decodes strangers' pictures in a few processes, each with a limit of time and memory, fairly between tenants.

A decoder is the largest piece of C that a stranger's bytes reach, and one that cannot be interrupted within the process. So
none runs in a server's own: a job that takes too long, needs too much memory or crashes its decoder costs its sender a 400, and
everybody else a process start of a tenth of a second.

    run ── queue of each tenant ── round robin ── process ── reply
             light jobs (a photograph) have processes of their own; one tenant's never take the last of them
             heavy ones (tens of megapixels) have others, which get the time that nobody else wants

Pickles are not exchanged, as multiprocessing, pebble and anyio do: a process that a picture took over could send any.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from PIL import Image

import services
from services.errors import TABLE, ApiError
from services.imaging import shapes
from services.imaging.codec import UNLIMITED, CheckedImage, ImageInfo, ImageLimits, MediaType, OutputFormat
from services.imaging.containers import strip_metadata
from services.imaging.decode_worker import BASE_BYTES, LIGHT_BYTES, TOO_MUCH_MEMORY
from services.imaging.manifests import Credentials
from services.imaging.masks import Outside
from services.imaging.plain_files import plain_info

_ROOT: Final = Path(services.__file__).parents[1]
_LIGHT_FILE_BYTES: Final = 16 * 1024 * 1024
"""Files above this are heavy without a look at them."""
_LIGHT_MEMORY: Final = BASE_BYTES + LIGHT_BYTES + 4 * _LIGHT_FILE_BYTES
_LIGHT_CPU_S: Final = 2.0
"""What a light job may take. One that takes more, although its structure promised less, is begun again as a heavy one. A
telephone's photograph that has to be turned and encoded again takes one second."""
_WALL_FACTOR: Final = 3
"""Wall time against CPU time: the processes share the machine's cores."""
_PIXEL_BYTES: Final = 20
"""Memory for each pixel of the largest picture: 16 to decode a WebP, or to encode one with alpha; the rest is reserved only."""
_SLACK_S: Final = 60.0
_START_S: Final = 60.0
"""Pillow is imported in a tenth of a second, unless the machine swaps."""
_REPLY_LINE: Final = 4 * 1024 * 1024
_MEDIA_TYPES: Final[Mapping[str, MediaType]] = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/webp": "image/webp",
}
_Result = TypeVar("_Result")


class DecodeObserver(Protocol):
    """Observes the pool; metrics implement it."""

    def decoded(self, operation: str, outcome: str) -> None:
        """A job ended: ``ok``, ``cancelled``, or the code of its error."""
        ...


class _Unobserved:
    def decoded(self, operation: str, outcome: str) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The bounds of a pool.

    Attributes:
        processes: started when they are needed; half of them, rounded down, take heavy jobs, the others light ones.
        cpu_s: CPU seconds of one job.
        memory_bytes: of one process, with a picture's encoded and decoded forms.
        tenant_jobs: queued jobs of one tenant, above which its requests get 429.
        jobs: queued jobs in all.
    """

    processes: int = 3
    cpu_s: float = 20.0
    memory_bytes: int = 1280 * 1024 * 1024
    tenant_jobs: int = 128
    jobs: int = 1024

    def for_limits(self, limits: ImageLimits) -> PoolOptions:
        """With the memory that the largest picture within these limits takes."""
        # The encoded picture twice: as received, and as passed on.
        needed = BASE_BYTES + 2 * limits.max_bytes + _PIXEL_BYTES * limits.max_pixels
        return replace(self, memory_bytes=needed)

    def of(self, *, light: bool) -> PoolOptions:
        """Those of one kind of process."""
        if not light:
            return self
        return replace(self, cpu_s=min(self.cpu_s, _LIGHT_CPU_S), memory_bytes=min(self.memory_bytes, _LIGHT_MEMORY))

    @property
    def heavy(self) -> int:
        """Processes for heavy jobs, at least one."""
        return max(1, self.processes // 2)

    @property
    def light(self) -> int:
        """Processes for light jobs, at least one."""
        return max(1, self.processes - self.heavy)


@dataclass(slots=True, eq=False)
class _Job:
    operation: str
    args: dict[str, Any]
    data: bytes
    tenant: str
    light: bool
    reply: asyncio.Future[tuple[dict[str, Any], bytes]]
    serving: asyncio.Task[None] | None = field(default=None, repr=False)


class _FairQueue:
    """Jobs by tenant, taken from the tenants in turn."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, deque[_Job]] = OrderedDict()

    def add(self, job: _Job) -> None:
        self._jobs.setdefault(job.tenant, deque()).append(job)

    def of(self, tenant: str) -> int:
        return len(self._jobs.get(tenant, ()))

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values()))

    def take(self, passed_over: Container[str] = ()) -> _Job | None:
        """The next job of a tenant that is not passed over; this tenant goes to the end of the row."""
        tenant = next((tenant for tenant in self._jobs if tenant not in passed_over), None)
        if tenant is None:
            return None
        jobs = self._jobs[tenant]
        job = jobs.popleft()
        del self._jobs[tenant]
        if jobs:
            self._jobs[tenant] = jobs
        return job

    def drop(self, job: _Job) -> None:
        """Remove a job whose caller left."""
        jobs = self._jobs.get(job.tenant)
        if jobs and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._jobs[job.tenant]


class DecodePool:
    """Runs jobs in processes. It belongs to one event loop, and starts a process when there is work for it.

    Args:
        options: its bounds.
        observer: receives how jobs ended.
    """

    def __init__(self, options: PoolOptions | None = None, observer: DecodeObserver | None = None) -> None:
        self._options = options or PoolOptions()
        self._observer = observer or _Unobserved()
        self._light, self._heavy = _FairQueue(), _FairQueue()
        self._idle: dict[bool, list[_Process]] = {True: [], False: []}
        """By whether they take light jobs."""
        self._running: set[_Job] = set()
        self._closed = False

    @property
    def queued(self) -> int:
        """Jobs that wait for a process."""
        return len(self._light) + len(self._heavy)

    @property
    def running(self) -> int:
        """Jobs that a process works at."""
        return len(self._running)

    async def check(
        self, data: bytes, *, limits: ImageLimits, param: str = "image", tenant: str = ""
    ) -> tuple[str, CheckedImage]:
        """The digest of what was received, and `codec.check_image` of it.

        Raises:
            ApiError: as `codec.check_image`; ``image_too_large`` if it takes too much time or memory; ``overloaded``.
        """
        reply, made = await self._run("check", data, _args(limits, param), tenant, bounded=True)
        return _checked(data, reply, made)

    async def check_mask(
        self, data: bytes, size: tuple[int, int], *, limits: ImageLimits, tenant: str = ""
    ) -> tuple[str, CheckedImage]:
        """As `check`, for the mask of a source of that size; raises as `services.imaging.masks.check` too."""
        reply, made = await self._run("mask", data, {**_args(limits, "mask"), "size": size}, tenant, bounded=True)
        return _checked(data, reply, made)

    async def receive(
        self, data: bytes, *, limits: ImageLimits, param: str, tenant: str, alpha: bool = False
    ) -> tuple[bytes, ImageInfo, bool]:
        """An editor's image without metadata, upright, in sRGB, and whether a pixel of it is not opaque.

        Ordinary files need no process for it (`plain_files`). The pixels of others are decoded only if that has to be measured,
        or if the file holds more than them (`codec.is_bare`).

        Args:
            data: the encoded image.
            limits: checked on its header.
            param: what messages call it.
            tenant: whose job it is.
            alpha: measure transparency; otherwise it is reported as opaque.

        Raises:
            ApiError: as `codec.inspect`, and ``invalid_image`` for one that is truncated or has a wrong checksum.
        """
        plain = plain_info(data) if len(data) <= limits.max_bytes and not alpha else None
        if plain and max(plain.width, plain.height) <= limits.max_side and plain.width * plain.height <= limits.max_pixels:
            stripped = strip_metadata(data)
            if stripped is not None:
                self._observer.decoded("receive", "ok")
                return stripped, plain, False
        reply, made = await self._run("receive", data, {**_args(limits, param), "alpha": alpha}, tenant, bounded=False)
        info = ImageInfo(_MEDIA_TYPES[reply["media_type"]], int(reply["width"]), int(reply["height"]))
        return data if reply["unchanged"] else made, info, bool(reply["alpha"])

    async def frame(
        self, image: CheckedImage, size: shapes.Size, fit: shapes.Fit, *, param: str, tenant: str, is_mask: bool = False
    ) -> CheckedImage:
        """A checked image in the shape of that size (`shapes.framed`), as PNG; its own bytes if it has that shape."""
        box = shapes.frame((image.width, image.height), size, fit)
        if box == (0, 0, image.width, image.height):
            return image
        pixels = (box[2] - box[0]) * (box[3] - box[1])
        args = {**_args(UNLIMITED, param), "size": size, "fit": fit, "is_mask": is_mask, "pixels": pixels}
        reply, made = await self._run("frame", image.data, args, tenant, bounded=True)
        return CheckedImage.hashed(
            made, ImageInfo("image/png", int(reply["width"]), int(reply["height"])), alpha=bool(reply["alpha"])
        )

    async def transcode(
        self,
        data: bytes,
        output_format: OutputFormat,
        compression: int | None = None,
        *,
        opaque: bool = False,
        max_side: int | None = None,
        param: str,
        tenant: str,
    ) -> bytes:
        """`codec.transcode`, with its exceptions and those of `check`."""
        wanted = {"format": output_format, "compression": compression, "opaque": opaque, "max_side": max_side}
        args = {**_args(UNLIMITED, param), **wanted}
        return (await self._run("transcode", data, args, tenant, bounded=True))[1]

    async def resize(
        self, data: bytes, size: tuple[int, int], *, param: str, tenant: str, fit: shapes.Fit | None = None
    ) -> bytes:
        """The image in exactly this size, as PNG.

        Args:
            data: the encoded image.
            size: width and height.
            param: what messages call it.
            tenant: whose job it is.
            fit: crop or pad an image of another shape; None scales its sides by themselves, which undoes an editor's rounding.
        """
        args = {**_args(UNLIMITED, param), "size": size, "fit": fit}
        return (await self._run("resize", data, args, tenant, bounded=False))[1]

    async def reduce(self, data: bytes, max_pixels: int, *, param: str, tenant: str) -> tuple[bytes, int, int]:
        """`codec.reduced` as PNG, with its width and height."""
        args = {**_args(UNLIMITED, param), "max_pixels": max_pixels}
        reply, made = await self._run("reduce", data, args, tenant, bounded=False)
        return made, int(reply["width"]), int(reply["height"])

    async def overlay(self, source: bytes, mask: bytes, max_pixels: int, *, param: str, tenant: str) -> tuple[bytes, int, int]:
        """`services.imaging.masks.overlay` as PNG of at most so many pixels, with its width and height."""
        args = {**_args(UNLIMITED, param), "sizes": [len(source), len(mask)], "max_pixels": max_pixels}
        reply, made = await self._run("overlay", source + mask, args, tenant, bounded=False)
        return made, int(reply["width"]), int(reply["height"])

    async def outside(self, source: bytes, mask: bytes, candidate: bytes, *, param: str, tenant: str) -> Outside | None:
        """`services.imaging.masks.outside` of encoded pictures."""
        args = {**_args(UNLIMITED, param), "sizes": [len(source), len(mask), len(candidate)]}
        reply, _ = await self._run("outside", source + mask + candidate, args, tenant, bounded=False)
        found = reply["outside"]
        return None if found is None else Outside(float(found[0]), float(found[1]))

    async def same(self, source: bytes, edited: bytes, *, param: str, tenant: str) -> bool:
        """`services.imaging.sameness.same_pixels` of encoded pictures."""
        args = {**_args(UNLIMITED, param), "sizes": [len(source), len(edited)]}
        reply, _ = await self._run("same", source + edited, args, tenant, bounded=False)
        return bool(reply["same"])

    async def provenance(
        self,
        data: bytes,
        *,
        limits: ImageLimits,
        tenant: str,
        anchors: str = "",
        keep: str | None = "",
        digests: bool = False,
        bounded: bool = True,
    ) -> tuple[dict[str, Any], bytes]:
        """The marks of a file, as `decode_worker` tells them, and the archive of its manifests.

        Args:
            data: the file.
            limits: with digests.
            tenant: whose job it is.
            anchors: PEM certificates that are trusted.
            keep: the label under which the archive is made (`manifests.SOURCE`, `ANSWER`); none is made
                without, and with None they are not even read.
            digests: tell the digests of its image data and of its pixels, which are decoded for it.
            bounded: refuse it when many jobs wait.

        Raises:
            ApiError: as `check`.
        """
        args = {**_args(limits, "image"), "anchors": anchors, "keep": keep, "digests": digests}
        return await self._run("provenance", data, args, tenant, bounded=bounded)

    async def sign(
        self,
        picture: bytes,
        archives: Sequence[bytes],
        definition: Mapping[str, Any],
        credentials: Credentials,
        *,
        tenant: str,
    ) -> bytes:
        """`manifests.sign` of a picture that this server encoded.

        Raises:
            ApiError: ``signing_failed``, whose message is for the operator, and as `check`.
        """
        files = [picture, *archives]
        args = {"sizes": [len(each) for each in files], "definition": definition, "credentials": asdict(credentials)}
        reply, made = await self._run("sign", b"".join(files), {**_args(UNLIMITED, "image"), **args}, tenant, bounded=True)
        if "refused" in reply:
            raise ApiError("signing_failed", str(reply["refused"]))
        return made

    async def decode(
        self, data: bytes, *, limits: ImageLimits, max_pixels: int | None = None, param: str = "image", tenant: str = ""
    ) -> Image.Image:
        """`codec.decode`, or `codec.reduced` if there is a number of pixels."""
        args = {**_args(limits, param), "max_pixels": max_pixels}
        reply, made = await self._run("pixels", data, args, tenant, bounded=True)
        return await asyncio.to_thread(Image.frombytes, reply["mode"], (int(reply["width"]), int(reply["height"])), made)

    async def close(self) -> None:
        """End the processes; what still waits for them is cancelled."""
        self._closed = True
        serving = [job.serving for job in self._running if job.serving]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        while (job := self._light.take() or self._heavy.take()) is not None:
            job.reply.cancel()
        for idle in self._idle.values():
            while idle:
                await idle.pop().end()

    async def _run(
        self, operation: str, data: bytes, args: dict[str, Any], tenant: str, *, bounded: bool
    ) -> tuple[dict[str, Any], bytes]:
        light = len(data) <= _LIGHT_FILE_BYTES
        try:
            reply, made = await self._queue(operation, data, {**args, "light": light}, tenant, bounded=bounded)
            if reply.get("heavy"):
                reply, made = await self._queue(operation, data, {**args, "light": False}, tenant, bounded=bounded)
            if "error" in reply:
                code, message, param = reply["error"]
                raise ApiError(code if code in TABLE else "invalid_image", str(message), param=param)
        except ApiError as exc:
            self._observer.decoded(operation, exc.code)
            raise
        except asyncio.CancelledError:
            self._observer.decoded(operation, "cancelled")
            raise
        self._observer.decoded(operation, "ok")
        return reply, made

    async def _queue(
        self, operation: str, data: bytes, args: dict[str, Any], tenant: str, *, bounded: bool
    ) -> tuple[dict[str, Any], bytes]:
        queue = self._light if args["light"] else self._heavy
        if bounded and (queue.of(tenant) >= self._options.tenant_jobs or self.queued >= self._options.jobs):
            message = f"{self.queued} pictures wait to be decoded, {queue.of(tenant)} of them yours; retry in a few seconds"
            raise ApiError("overloaded", message, param=args["param"], retry_after=5)
        job = _Job(operation, args, data, tenant, args["light"], asyncio.get_running_loop().create_future())
        queue.add(job)
        self._start_jobs()
        try:
            return await job.reply
        finally:
            queue.drop(job)
            # A light job is done sooner than another process is started.
            if job.serving is not None and not job.light:
                job.serving.cancel()

    def _start_jobs(self) -> None:
        for queue, processes in ((self._light, self._options.light), (self._heavy, self._options.heavy)):
            while not self._closed and (job := self._next(queue, processes)) is not None:
                self._running.add(job)
                job.serving = asyncio.create_task(self._serve(job))
                # Not in the task, which does not run if it is cancelled before its first step.
                job.serving.add_done_callback(partial(self._served, job))

    def _next(self, queue: _FairQueue, processes: int) -> _Job | None:
        """The next job of a queue that so many processes serve. One tenant leaves the last of several to the others."""
        light = queue is self._light
        running = Counter(job.tenant for job in self._running if job.light == light)
        if running.total() >= processes:
            return None
        most = max(1, processes - 1)
        return queue.take({tenant for tenant, jobs in running.items() if jobs >= most})

    async def _serve(self, job: _Job) -> None:
        try:
            reply = await self._answer(job)
        except ApiError as exc:
            if not job.reply.done():
                job.reply.set_exception(exc)
        else:
            if not job.reply.done():
                job.reply.set_result(reply)

    def _served(self, job: _Job, _: asyncio.Task[None]) -> None:
        job.reply.cancel()
        self._running.discard(job)
        self._start_jobs()

    async def _answer(self, job: _Job) -> tuple[dict[str, Any], bytes]:
        """The reply of a process. One that dies unasked gets a second try, since it may not be the picture's fault."""
        for _ in range(2):
            idle = self._idle[job.light]
            process = idle.pop() if idle else _Process(self._options.of(light=job.light), light=job.light)
            try:
                reply = await process.ask(job.operation, job.args, job.data)
            except _DiedError as exc:
                await process.end()
                if exc.reason is not None and job.light:
                    return {"heavy": True}, b""
                if exc.reason is not None:
                    raise ApiError("image_too_large", f"{job.args['param']} {exc.reason}", param=job.args["param"]) from exc
                continue
            except BaseException:
                await process.end()
                raise
            if self._closed:
                await process.end()
            else:
                idle.append(process)
            return reply
        message = f"{job.args['param']} cannot be decoded; convert it to another format"
        raise ApiError("invalid_image", message, param=job.args["param"])


class _DiedError(Exception):
    """A process ended during a job.

    Attributes:
        reason: what its picture did, as a clause; None if it is not known.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


class _Process:
    """One process of `decode_worker`, started by its first job."""

    def __init__(self, options: PoolOptions, *, light: bool) -> None:
        self._options = options
        self._light = light
        self._process: asyncio.subprocess.Process | None = None
        self._buffer = _shared_buffer()

    async def ask(self, operation: str, args: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The reply to one job, and its bytes.

        Raises:
            _DiedError: when the process ended, overran its time, or replied with something else.
        """
        too_long = f"takes more than {self._options.cpu_s:g} seconds to decode; send a smaller picture, or a baseline JPEG"
        try:
            async with asyncio.timeout(_START_S):
                process = self._process or await self._start()
        except TimeoutError as exc:
            raise _DiedError from exc
        try:
            async with asyncio.timeout(self._options.cpu_s * _WALL_FACTOR + _SLACK_S):
                assert process.stdin
                assert process.stdout
                await _in_thread(_fill, self._buffer, data)
                request = {"operation": operation, "args": args, "size": len(data), "cpu_s": self._options.cpu_s}
                process.stdin.write(json.dumps(request).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
                reply = json.loads(line) if line else None
                if not isinstance(reply, dict):
                    raise await self._death(too_long)
                return reply, await _in_thread(_drain, self._buffer, min(int(reply["size"]), self._options.memory_bytes))
        except TimeoutError as exc:
            raise _DiedError(too_long) from exc
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise _DiedError from exc

    async def _death(self, too_long: str) -> _DiedError:
        assert self._process
        code = await self._process.wait()
        # The kernel's out-of-memory killer sends SIGKILL.
        return _DiedError({-signal.SIGXCPU: too_long, -signal.SIGKILL: TOO_MUCH_MEMORY}.get(code))

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-s", "-m", "services.imaging.decode_worker"),
            *(str(self._options.memory_bytes), str(self._buffer), "light" if self._light else "heavy"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(self._buffer,),
            # No secrets. A signal to the server's process group, as from a terminal, is not for this one.
            env={"PYTHONPATH": str(_ROOT), "MALLOC_ARENA_MAX": "2"},
            cwd="/",
            start_new_session=True,
            limit=_REPLY_LINE,
        )
        assert self._process.stdout
        if not await self._process.stdout.readline():
            raise await self._death("cannot be decoded now")
        return self._process

    async def end(self) -> None:
        """Kill the process if it lives, and free the buffer."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None
        if self._buffer >= 0:
            os.close(self._buffer)
            self._buffer = -1


def _checked(data: bytes, reply: Mapping[str, Any], made: bytes) -> tuple[str, CheckedImage]:
    media_type = _MEDIA_TYPES[reply["media_type"]]
    whole = data if reply["unchanged"] else made
    size = int(reply["width"]), int(reply["height"])
    marked = bool(reply.get("marked"))
    return str(reply["received"]), CheckedImage(whole, media_type, *size, str(reply["sha256"]), bool(reply["alpha"]), marked)


def _args(limits: ImageLimits, param: str) -> dict[str, Any]:
    return {"limits": [limits.max_bytes, limits.max_pixels, limits.max_side], "param": param}


def _shared_buffer() -> int:
    """A file in memory; on systems without them, one without a name."""
    if sys.platform == "linux":
        return os.memfd_create("picture", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


async def _in_thread(function: Callable[..., _Result], *args: Any) -> _Result:
    """As `asyncio.to_thread`, but the thread has ended when it returns, even if it was cancelled: the buffer is closed then."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _fill(buffer: int, data: bytes) -> None:
    os.ftruncate(buffer, 0)
    at = 0
    while at < len(data):
        at += os.pwrite(buffer, memoryview(data)[at:], at)


def _drain(buffer: int, size: int) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < size and (part := os.pread(buffer, size - at, at)):
        parts.append(part)
        at += len(part)
    os.ftruncate(buffer, 0)
    return parts[0] if len(parts) == 1 else b"".join(parts)
