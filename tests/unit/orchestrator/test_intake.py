"""A new session's pictures are stored before it is recorded, and removed only if it was not."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.api.intake import Intake
from orchestrator.loop import events as ev
from orchestrator.ports import Bounds, Created, Idempotency, PortError, StorageUnavailableError

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
EVENT = ev.SessionCreated(at=1.0, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=600))
OWN = "its own"


@dataclass
class Folders:
    there: dict[str, list[bytes]] = field(default_factory=dict)

    async def put(self, session_id: str, data: bytes) -> str:
        self.there.setdefault(session_id, []).append(data)
        return "0" * 64

    async def remove(self, session_id: str) -> None:
        del self.there[session_id]


@dataclass
class Sessions:
    """Answers a create with what the test says, or with the new session's own id."""

    answer: Created | PortError

    async def create(self, session_id: str, event: ev.SessionCreated, idempotency: Any, bounds: Any) -> Created:
        if isinstance(self.answer, PortError):
            raise self.answer
        return replace(self.answer, session_id=session_id) if self.answer.session_id == OWN else self.answer


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (Created(OWN, fresh=True, fingerprint="f"), True),
        # Whatever is said of it, it is this one.
        (Created(OWN, fresh=False, fingerprint="f"), True),
        (Created("ses_another", fresh=False, fingerprint="f"), False),
        (PortError("overloaded", "too many", retryable=True), False),
        # It may have been made, although we were not told.
        (StorageUnavailableError("Redis did not answer"), True),
    ],
)
async def test_pictures_stay_unless_their_session_was_surely_not_made(answer: Created | PortError, kept: bool) -> None:  # noqa: FBT001
    """Whoever removes them in doubt takes the source from a session that runs."""
    folders = Folders()
    intake = Intake(Sessions(answer), folders, None, None, None, None)  # type: ignore[arg-type]  # what recording needs
    with contextlib.suppress(PortError):
        await intake._recorded([b"source", b"mask"], EVENT, Idempotency("k", "f"), Bounds())

    assert list(folders.there.values()) == ([[b"source", b"mask"]] if kept else [])
