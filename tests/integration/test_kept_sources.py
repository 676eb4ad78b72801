"""A real worker process that is restarted between two turns: the source is sent again, and the edit is made once."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from PIL import Image

from orchestrator.ports.collaborators import EditOrder, EditorUsage, EditReply
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.http import Call, HttpUpstream, Reply, RequestObserver
from orchestrator.upstreams.liveness import Patience
from tests.component.orchestrator.desk import WAIT_S, asking, stored
from tests.doubles.decoding import InProcessPool
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.unit.imaging.pictures import saved

SOURCE = saved(Image.frombytes("RGB", (192, 128), random.Random(5).randbytes(3 * 192 * 128)), "PNG")


def worker(folder: Path, port: int, *, cache_bytes: int = 1 << 20) -> Process:
    env = {"EDITTHINKER_EDITOR_SOURCE_CACHE_BYTES": str(cache_bytes)}
    process = module("services.editor", port, folder / "editor.log", env=env)
    wait_ready(process)
    return process


def order(number: int, session: str = "ses_1") -> EditOrder:
    return EditOrder(stored(SOURCE), None, "warmer", 7, f"{session}/{number}/1", WAIT_S, session_id=session)


def counting(upstream: HttpUpstream) -> list[int]:
    """The sizes of the calls that it sends."""
    sizes: list[int] = []
    post = upstream.post

    async def counted(call: Call, patience: Patience, observer: RequestObserver | None = None) -> Reply:
        sizes.append(call.size)
        return await post(call, patience, observer)

    upstream.post = counted  # type: ignore[method-assign]  # a record, no other behaviour
    return sizes


async def edits(url: str, steps: list[Callable[[Callable[[EditOrder], Awaitable[EditReply]]], Awaitable[object]]]) -> list[bool]:
    """Whether each call had the file."""
    async with asking("editor", url) as upstream:
        sizes = counting(upstream)
        editor = HttpEditor(upstream, decoder=InProcessPool())
        for step in steps:
            await step(lambda each: editor.edit(each, EditorUsage()))
    return [size > len(SOURCE) for size in sizes]


async def test_a_restarted_worker_asks_for_the_source(tmp_path: Path) -> None:
    port = free_port()
    first = worker(tmp_path, port)
    made: list[Process] = [first]
    pictures: list[bytes] = []

    async def turn(edit: Callable[[EditOrder], Awaitable[EditReply]]) -> None:
        pictures.append((await edit(order(len(pictures) + 1))).image.data)

    async def restart(_: object) -> None:
        made[-1].stop()
        made.append(worker(tmp_path, port))

    try:
        sent = await edits(first.url, [turn, turn, restart, turn, turn, turn, turn])
    finally:
        made[-1].stop()
    # The third turn is asked for its file; the pause after that miss lasts two turns.
    assert sent == [True, False, False, True, True, True, False]
    assert len(set(pictures)) == 1


async def test_a_source_that_the_worker_dropped_is_sent_again(tmp_path: Path) -> None:
    process = worker(tmp_path, free_port(), cache_bytes=int(1.5 * len(SOURCE)))
    try:
        sent = await edits(
            process.url,
            [
                lambda edit: edit(order(1)),
                lambda edit: edit(order(1, "ses_2")),
                lambda edit: edit(order(2)),
                lambda edit: edit(order(3)),
            ],
        )
    finally:
        process.stop()
    assert sent == [True, True, False, True, True]
