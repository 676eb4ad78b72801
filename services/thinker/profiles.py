"""Profiles: named ways to be a thinker. A profile turns settings into a server that runs until it is told to stop.

`rules` is the embedded thinker. A profile that starts vLLM with the arguments a model needs is one more entry of
`PROFILES`; `__main__` knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from services.thinker.settings import Settings

Serve = Callable[[Settings], None]
"""Serves until SIGTERM or SIGINT, then returns."""


def _rules(settings: Settings) -> None:
    # Imported here: a vLLM profile must start without numpy and OpenCV, and this one without vLLM.
    import uvicorn  # noqa: PLC0415

    from services.thinker.rules.app import Limits, create_app  # noqa: PLC0415
    from services.wire.images import ImageLimits  # noqa: PLC0415

    limits = Limits(
        model=settings.model,
        workers=settings.workers,
        queue=settings.queue,
        images=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
    )
    uvicorn.run(
        create_app(limits),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        # The longest critique takes a fraction of a second.
        timeout_graceful_shutdown=5,
    )


PROFILES: Final[Mapping[str, Serve]] = {"rules": _rules}
