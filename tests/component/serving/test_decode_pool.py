"""The decode pool with its real processes: limits, crashes, cancellation, fairness."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.errors import ApiError
from services.imaging import codec
from services.imaging.codec import ImageLimits, check_image, decode, open_image
from services.imaging.decode_pool import DecodePool, PoolOptions
from tests.unit.imaging.pictures import saved, scene

SMALL = saved(scene(), "PNG")
HEAVY = saved(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True)
"""2 kB, and half a second."""
WIDE = saved(Image.new("RGB", (2000, 500), "teal"), "JPEG")


@asynccontextmanager
async def pool(**options: float) -> AsyncIterator[DecodePool]:
    made = DecodePool(PoolOptions(**options))  # type: ignore[arg-type]  # numbers by name
    try:
        yield made
    finally:
        await made.close()


def pids(held: DecodePool) -> list[int]:
    processes = [process._process for idle in held._idle.values() for process in idle]
    return [process.pid for process in processes if process]


async def refusal(work: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await work
    return refused.value


async def test_it_returns_what_the_codec_returns_in_the_process() -> None:
    cmyk = saved(Image.new("CMYK", (40, 30), (1, 2, 3, 4)), "JPEG")
    async with pool() as held:
        for data in (SMALL, cmyk):
            received, checked = await held.check(data, limits=ImageLimits())
            assert (received, checked) == (codec.digest(data), check_image(open_image(data)))
        assert await held.transcode(SMALL, "webp", 80, param="format", tenant="") == codec.transcode(SMALL, "webp", 80)
        small = await held.transcode(WIDE, "jpeg", max_side=100, param="max_side", tenant="")
        assert small == codec.transcode(WIDE, "jpeg", max_side=100) and Image.open(io.BytesIO(small)).size[0] == 100
        assert (await held.decode(cmyk, limits=ImageLimits())).tobytes() == decode(cmyk).tobytes()
        made, width, height = await held.reduce(WIDE, 10_000, param="x", tenant="")
        assert (width, height) == Image.open(io.BytesIO(made)).size == (200, 50)
        resized = await held.resize(SMALL, (12, 8), param="x", tenant="")
        assert Image.open(io.BytesIO(resized)).size == (12, 8)


async def test_an_error_of_the_codec_arrives_with_its_code_and_field() -> None:
    async with pool() as held:
        refused = await refusal(held.check(SMALL[:-40], limits=ImageLimits(), param="mask"))
        assert (refused.code, refused.param) == ("invalid_image", "mask")
        refused = await refusal(held.check(SMALL, limits=ImageLimits(max_pixels=3), param="image"))
        assert (refused.code, refused.param) == ("image_too_large", "image")
        assert len(pids(held)) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [({"memory_bytes": 150_000_000}, "memory"), ({"cpu_s": 0.1}, "seconds")],
    ids=["memory", "CPU time"],
)
async def test_a_picture_beyond_a_limit_is_a_400_and_the_next_one_is_decoded(options: dict[str, float], word: str) -> None:
    async with pool(**options) as held:
        # Limits of CPU time are whole seconds; this takes four.
        refused = await refusal(held.transcode(HEAVY, "webp", 90, param="image", tenant=""))
        assert (refused.code, refused.param) == ("image_too_large", "image")
        assert word in refused.message and "send a smaller picture" in refused.message
        await held.check(SMALL, limits=ImageLimits())


async def test_a_light_job_that_takes_too_long_is_begun_again_as_a_heavy_one() -> None:
    async with pool() as held:
        await held.check(SMALL, limits=ImageLimits())
        (pid,) = pids(held)
        (process,) = held._idle[True]
        assert process._process and process._process.stdout
        replies: Any = process._process.stdout
        os.kill(pid, signal.SIGSTOP)
        job = asyncio.create_task(held.check(SMALL, limits=ImageLimits()))
        # The request was written, and its reply is awaited.
        await _until(lambda: replies._waiter is not None)
        # As its limit of CPU time ends it.
        os.kill(pid, signal.SIGXCPU)
        os.kill(pid, signal.SIGCONT)
        _, checked = await job
        assert checked.data == SMALL
        assert [len(held._idle[light]) for light in (True, False)] == [0, 1]


async def test_an_image_is_received_without_decoding_its_pixels() -> None:
    async with pool() as held:
        data, info, _ = await held.receive(WIDE, limits=ImageLimits(), param="x", tenant="")
        assert data is WIDE
        assert (info.media_type, info.width, info.height) == ("image/jpeg", 2000, 500)
        refused = await refusal(held.receive(SMALL[:-20], limits=ImageLimits(), param="x", tenant=""))
        assert refused.message == "x is truncated or corrupt"
        # Pillow allocates its canvases when it opens it: more than a light process has, and less than a heavy one.
        assert (await held.receive(HEAVY, limits=ImageLimits(), param="x", tenant=""))[1].width == 7000


async def test_a_light_process_may_take_less_than_a_heavy_one() -> None:
    async with pool() as held:
        await held.check(SMALL, limits=ImageLimits())
        await held.check(HEAVY, limits=ImageLimits())
        light, heavy = (resource.prlimit(pid, resource.RLIMIT_DATA)[0] for pid in pids(held))
        assert light < heavy / 2
        light, heavy = (resource.prlimit(pid, resource.RLIMIT_CPU)[0] for pid in pids(held))
        assert light <= 3 and heavy >= 20


async def test_a_process_that_dies_idle_or_once_costs_nobody_a_picture() -> None:
    async with pool() as held:
        await held.check(SMALL, limits=ImageLimits())
        (pid,) = pids(held)
        os.kill(pid, signal.SIGSEGV)
        _, checked = await held.check(SMALL, limits=ImageLimits())
        assert checked.data == SMALL and pids(held) != [pid]


async def test_a_heavy_job_ends_with_its_caller_and_so_does_a_queued_one() -> None:
    async with pool(cpu_s=60) as held:
        await held.check(SMALL, limits=ImageLimits())
        first = asyncio.create_task(held.transcode(HEAVY, "webp", 90, param="format", tenant="ann"))
        second = asyncio.create_task(held.transcode(HEAVY, "webp", 90, param="format", tenant="ann"))
        await _until(lambda: held.running == 1 and held.queued == 1)
        # Found to be heavy, and at work on it.
        await _until(lambda: any(not job.light for job in held._running))
        for task in (second, first):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await _until(lambda: held.running == 0)
        assert held.queued == 0
        await held.check(SMALL, limits=ImageLimits())


async def test_light_jobs_pass_heavy_ones_and_tenants_take_turns() -> None:
    finished: list[str] = []

    async def work(tenant: str, name: str, data: bytes) -> None:
        await held.check(data, limits=ImageLimits(), tenant=tenant)
        finished.append(name)

    async with pool() as held:
        heavy = [asyncio.create_task(work("ann", f"ann {number}", HEAVY)) for number in range(6)]
        await _until(lambda: any(not job.light for job in held._running))
        await asyncio.gather(work("bob", "bob's thumbnail", SMALL), work("bob", "bob's photograph", HEAVY), *heavy)

    assert finished[0] == "bob's thumbnail"
    # After ann's job that ran, and at most two whose turn had come.
    assert finished.index("bob's photograph") <= 4


async def test_a_tenant_leaves_one_of_the_light_processes_to_others() -> None:
    most = 0
    async with pool() as held:
        jobs = [asyncio.create_task(held.check(SMALL, limits=ImageLimits(), tenant="ann")) for _ in range(20)]
        while not all(job.done() for job in jobs):
            most = max(most, sum(job.light and job.tenant == "ann" for job in held._running))
            await asyncio.sleep(0)
        assert most == 1
        await asyncio.gather(*jobs)


async def test_heavy_jobs_get_the_time_that_nobody_else_wants() -> None:
    async with pool() as held:
        await held.check(SMALL, limits=ImageLimits())
        await held.check(HEAVY, limits=ImageLimits())
        assert sorted(os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0) for pid in pids(held)) == [0, 15]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process ends with its job")
async def test_a_process_at_work_ends_with_a_server_that_is_killed() -> None:
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", _SERVER, stdout=asyncio.subprocess.PIPE)
    assert server.stdout
    pid = int(await server.stdout.readline())
    server.kill()
    await server.wait()
    await _until(lambda: not Path(f"/proc/{pid}").exists())


_SERVER = """
import asyncio
from services.imaging.codec import ImageLimits
from services.imaging.decode_pool import DecodePool, PoolOptions
from tests.component.serving.test_decode_pool import HEAVY, pids

async def main():
    held = DecodePool(PoolOptions(cpu_s=300))
    await held.check(HEAVY, limits=ImageLimits())
    pid = pids(held)[-1]
    job = asyncio.create_task(held.transcode(HEAVY, "webp", 90, param="format", tenant=""))
    while not any(not job.light for job in held._running):
        await asyncio.sleep(0.005)
    print(pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_tenant_s_queue_is_bounded_and_others_are_not_refused() -> None:
    async with pool(processes=1, tenant_jobs=2) as held:
        jobs = [asyncio.create_task(held.check(HEAVY, limits=ImageLimits(), tenant="ann")) for _ in range(3)]
        await _until(lambda: held.queued == 2)
        refused = await refusal(held.check(HEAVY, limits=ImageLimits(), tenant="ann"))
        assert (refused.code, refused.status, refused.retry_after) == ("overloaded", 429, 5)
        await held.check(SMALL, limits=ImageLimits(), tenant="bob")
        await asyncio.gather(*jobs, return_exceptions=True)


async def test_a_process_knows_no_secret_and_ends_with_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITTHINKER_URL_SECRET", "do-not-tell-anybody")
    async with pool() as held:
        await held.check(SMALL, limits=ImageLimits())
        (pid,) = pids(held)
        assert b"do-not-tell" not in Path(f"/proc/{pid}/environ").read_bytes()
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert not any(name in loaded for name in ("torch", "cv2", "numpy", "uvloop"))
    assert not Path(f"/proc/{pid}").exists()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)
