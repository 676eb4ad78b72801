"""Pictures for a thinker are scaled down to its limit."""

from __future__ import annotations

from PIL import Image

from orchestrator.loop.events import ImageRef
from orchestrator.ports.collaborators import StoredImage
from orchestrator.upstreams.scaling import Pictures
from services.imaging.codec import inspect
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved


async def test_a_stored_picture_is_scaled_however_large_it_is() -> None:
    """It was within the bounds that are configured when it came in, which may be wider than the usual ones."""
    data = saved(Image.new("1", (8000, 6400)), "PNG")

    async def load() -> bytes:
        return data

    ref = ImageRef(sha256="0" * 64, media_type="image/png", bytes=len(data), width=8000, height=6400)
    small = await Pictures(10_000, InProcessPool()).fit(StoredImage(ref, load))

    assert (small.ref.width, small.ref.height) == (111, 89)
    assert inspect(await small.load()).width == 111
