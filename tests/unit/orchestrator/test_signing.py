"""Signatures end in time, are made once, and say nothing of the operator's files where they fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.signing import Claim, Signer
from services.errors import ApiError
from services.imaging.codec import encode
from services.imaging.manifests import Credentials
from tests.doubles.decoding import InProcessPool
from tests.doubles.signing import Certificate
from tests.unit.imaging.pictures import scene

CLAIM = Claim({"action": "c2pa.edited", "softwareAgent": {"name": "e"}}, "image/png")


async def nothing(_: str) -> bytes:
    raise AssertionError


async def sign(signer: Signer, name: str = "a") -> bytes:
    return await signer.signed((name,), encode(scene(), "png"), CLAIM, nothing, tenant="t")


class SilentPool(InProcessPool):
    """No process ever answers.

    Attributes:
        asked: is set once somebody waits.
        left: is set once nobody does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def _queue(self, *_: Any, **__: Any) -> tuple[dict[str, Any], bytes]:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError


@pytest.mark.parametrize("required", [True, False])
async def test_a_signature_that_does_not_come_ends_in_time(*, required: bool) -> None:
    counted: list[str] = []
    signer = Signer(SilentPool(), Credentials("x"), required, counted.append, timeout_s=0.01)
    if required:
        with pytest.raises(ApiError) as refused:
            await sign(signer)
        assert refused.value.code == "signing_failed" and counted == ["failed"]
    else:
        assert await sign(signer) == encode(scene(), "png") and counted == ["failed", "unsigned"]


async def test_a_failure_names_no_file(tmp_path: Path) -> None:
    counted: list[str] = []
    signer = Signer(InProcessPool(), Credentials(str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")), True, counted.append)
    with pytest.raises(ApiError) as refused:
        await sign(signer)
    assert str(tmp_path) not in refused.value.message and counted == ["failed"]


async def test_callers_at_the_same_time_get_the_same_signature(tmp_path: Path) -> None:
    counted: list[str] = []
    signer = Signer(InProcessPool(), Certificate.made(tmp_path).credentials, counted=counted.append)
    one, other = await asyncio.gather(sign(signer), sign(signer))
    assert one == other == await sign(signer) and counted == ["signed"]
    assert await sign(signer, "b") != one


async def test_a_signature_ends_when_the_last_of_its_callers_leaves() -> None:
    pool = SilentPool()
    signer = Signer(pool, Credentials("x"), True)
    callers = [asyncio.create_task(sign(signer)) for _ in range(2)]
    await pool.asked.wait()
    callers[0].cancel()
    await asyncio.wait(callers[:1])
    assert not pool.left.is_set()
    callers[1].cancel()
    await asyncio.wait_for(pool.left.wait(), 10)


def test_an_editors_manifests_are_placed_into_the_picture() -> None:
    claim = Claim(CLAIM.action, "image/png", "source's", "answer's")
    (assertion,) = claim.definition()["assertions"]
    assert [each["action"] for each in assertion["data"]["actions"]] == ["c2pa.opened", "c2pa.placed", "c2pa.edited"]
    assert claim.archives == ["source's", "answer's"] and "ingredients" not in claim.definition()
    (source,) = CLAIM.definition()["ingredients"]
    assert source["relationship"] == "parentOf" and CLAIM.archives == []
