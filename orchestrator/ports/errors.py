"""Errors of the ports: what the orchestrator knows of a failure at an upstream or in storage."""

from __future__ import annotations

from typing import Literal


class PortError(Exception):
    """A request to an upstream or to storage failed.

    Attributes:
        code: a row of the error table.
        kind: ``busy`` and ``away``: the request was not accepted and may be later; ``refused``: it will not be accepted;
            ``silent``: nothing came back in time; ``fault``: everything else.
        retryable: whether trying again later may help.
        retry_after: seconds after which to try again, if the server named them.
        status: of the HTTP response, if there was one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: Literal["busy", "away", "refused", "silent", "fault"] = "fault",
        retryable: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after


class EditorError(PortError):
    """An edit failed: it produced no image."""


class ThinkerError(PortError):
    """A critique failed: it produced no scores."""


class StorageUnavailableError(PortError):
    """Redis or the blob store cannot be reached or refuses to write; no data is known to be lost.

    Attributes:
        shown: what a caller may read, without hosts and paths; None if only that it cannot be reached.
    """

    def __init__(self, message: str, *, shown: str | None = None, retry_after: float | None = None) -> None:
        super().__init__("storage_unavailable", message, retryable=True, retry_after=retry_after)
        self.shown = shown


class StorageFullError(StorageUnavailableError):
    """The blob store's disk is full: reads work, and writes will once there is space."""

    def __init__(self, message: str, *, shown: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, shown=shown, retry_after=retry_after)
        self.code = "storage_full"


class BlobNotFoundError(PortError):
    """An image is not in the blob store."""

    def __init__(self, sha256: str) -> None:
        super().__init__("image_not_found", f"image {sha256} is not stored")


class FencedError(Exception):
    """Another replica owns the session now; this one must stop driving it."""


class CallerLeftError(Exception):
    """The caller who alone can get the session's result left, and may come back: no turn and no edit is begun until then."""


class AbandonedError(Exception):
    """The caller who alone could get the session's result is gone; work for it is not recorded any more."""
