"""Digests of pictures made: kept for the tenant of each, once, and dropped rather than waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.execution import made
from orchestrator.execution.made import MadePictures
from services.imaging.codec import encode
from services.imaging.containers import content_digest
from tests.doubles.decoding import InProcessPool
from tests.doubles.waiting import until
from tests.unit.imaging.pictures import saved, scene


class Log:
    """What is kept, by tenant."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.keeps = keeps
        self.kept: list[tuple[str, list[bytes]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def add(self, tenant: str, digests: Sequence[bytes]) -> None:
        await self.gate.wait()
        self.kept.append((tenant, list(digests)))

    async def knows(self, tenant: str, digests: Sequence[bytes]) -> bool:
        raise AssertionError


async def test_a_picture_is_kept_once_for_each_tenant() -> None:
    log = Log()
    pictures = MadePictures(log, InProcessPool())
    data = encode(scene(), "png")
    for tenant in ("ann", "ann", "bob"):
        pictures.note(tenant, data, ("digest", "png"))
    await until(lambda: len(log.kept) == 2)
    assert [tenant for tenant, _ in log.kept] == ["ann", "bob"]
    assert log.kept[0][1] == log.kept[1][1] and content_digest(data) in log.kept[0][1]
    await pictures.close()


async def test_an_opaque_picture_has_the_same_pixels_with_and_without_alpha() -> None:
    log = Log()
    pictures = MadePictures(log, InProcessPool())
    for data in (encode(scene(), "png"), saved(scene().convert("RGBA"), "PNG"), saved(scene(), "WEBP", lossless=True)):
        pictures.note("ann", data)
    await until(lambda: len(log.kept) == 3)
    assert len({digests[1] for _, digests in log.kept}) == 1 and len({digests[0] for _, digests in log.kept}) == 3
    await pictures.close()


async def test_what_does_not_fit_is_dropped_and_counted_and_may_come_again() -> None:
    log, counted = Log(), list[str]()
    log.gate.clear()
    pictures = MadePictures(log, InProcessPool(), counted.append)
    data = encode(scene(), "png")
    large = data + bytes(made._MOST_BYTES)
    pictures.note("ann", data)
    pictures.note("ann", large, ("large",))
    assert counted == ["dropped"]
    log.gate.set()
    await until(lambda: counted[-1] == "kept")
    await until(lambda: not pictures._tasks)
    pictures.note("ann", large, ("large",))
    await until(lambda: len(log.kept) == 2)
    await pictures.close()


async def test_nothing_is_decoded_where_nothing_is_kept() -> None:
    pictures = MadePictures(Log(keeps=False), InProcessPool())
    pictures.note("ann", b"no picture")
    assert not pictures._tasks


async def test_a_picture_that_cannot_be_read_is_counted() -> None:
    counted: list[str] = []
    pictures = MadePictures(Log(), InProcessPool(), counted.append)
    pictures.note("ann", b"no picture")
    await until(lambda: counted == ["dropped"])
