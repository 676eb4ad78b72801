"""Asks the hub once whether a model is there, before anything is loaded: its client would try for half a minute, and then say
that a file is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import get_hf_file_metadata

_WAIT_S = 10.0
_REASONS = {
    GatedRepoError: "{at} is gated: accept its licence on the hub, and set HF_TOKEN",
    RevisionNotFoundError: "the hub has no {at}: name another revision",
    RepositoryNotFoundError: "there is no folder {at}, and the hub has no such model, or HF_TOKEN may not read it",
    EntryNotFoundError: "{at} has no {file} on the hub: it is no pipeline of diffusers",
    HfHubHTTPError: "the hub refuses {at} ({exc}): name a folder, or try again later",
}
_UNREACHABLE = "{at} is no folder here and not in the hub's cache, and the hub cannot be reached ({exc}): name a folder"


def offline() -> bool:
    """Whether the operator has forbidden to ask the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def check(model: str, revision: str | None, files: Sequence[str]) -> None:
    """Refuse a hub id of which none of ``files`` is in the cache or to be had.

    Raises:
        ValueError: with the reason, for the first of them where the hub has none.
    """
    if Path(model).exists():
        return
    try:
        cached = any(isinstance(try_to_load_from_cache(model, file, revision=revision), str) for file in files)
    except HFValidationError:
        raise ValueError(f"there is no folder {model}, and it is no hub id, which is owner/name") from None
    if cached:
        return
    at = f"{model}@{revision}" if revision else model
    if offline():
        raise ValueError(
            f"{at} is no folder here and not in the hub's cache, and HF_HUB_OFFLINE is set: name a folder, or unset it"
        )
    for number, file in enumerate(files, 1):
        try:
            get_hf_file_metadata(hf_hub_url(model, file, revision=revision, endpoint=constants.ENDPOINT), timeout=_WAIT_S)
        except EntryNotFoundError as exc:
            if number == len(files):
                raise ValueError(_REASONS[EntryNotFoundError].format(at=at, file=files[0])) from exc
        # Also all that its HTTP client raises: no name, no route, no answer in time.
        except Exception as exc:
            reason = next((text for kind, text in _REASONS.items() if isinstance(exc, kind)), _UNREACHABLE)
            raise ValueError(reason.format(at=at, exc=str(exc).partition("\n")[0] or type(exc).__name__)) from exc
        else:
            return
