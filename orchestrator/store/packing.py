"""How events are stored: a long instruction once in each log.

A session's instruction is in its first event, in every turn that is made with it, in a critique that repeats it, and in
feedback. Where an event's instruction is long and the log has it already, the event is stored without it, and
``"instruction_at"`` at its end is the number of the event that has it. Readers get complete events.

A version before this one cannot read such an event. So short instructions, which nearly all are, are stored as before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from orchestrator.loop.events import Event, dump

LONG_BYTES: Final = 1024
"""UTF-8 bytes from which an instruction is stored once."""
# Quotes inside a JSON string are escaped, and an object at the end of an event would end with two braces.
_REFERENCE: Final = re.compile(rb',"instruction_at":([0-9]+)\}$')


@dataclass(frozen=True, slots=True)
class Packed:
    """An event for ``record_event`` in ``lua/prelude.lua``.

    Attributes:
        digest: of its instruction, if that is long; empty otherwise.
        head: its JSON without the instruction, up to the number of the event that has it.
    """

    event: bytes
    digest: str = ""
    head: bytes = b""


def pack(event: Event) -> Packed:
    """An event as it is handed to Redis."""
    whole = dump(event)
    # No longer in bytes than its JSON, so most events are not looked into.
    instruction = getattr(event, "instruction", None) if len(whole) > LONG_BYTES else None
    text = instruction.encode() if isinstance(instruction, str) else b""
    if len(text) <= LONG_BYTES:
        return Packed(whole)
    rest = event.model_dump_json(exclude={"instruction"}).encode()
    return Packed(whole, hashlib.sha256(text).hexdigest()[:32], rest[:-1] + b',"instruction_at":')


def references(entries: Sequence[tuple[int, bytes]]) -> Collection[int]:
    """The numbers of events that are not among these and have an instruction of one that is."""
    present = {seq for seq, _ in entries}
    named = {int(found[1]) for _, stored in entries if (found := _REFERENCE.search(stored))}
    return named - present


def unpack(entries: Sequence[tuple[int, bytes]], others: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
    """Entries as (number, JSON), each with its instruction.

    Args:
        entries: as stored.
        others: stored events that `references` asked for.

    Raises:
        KeyError: when an event that is referred to is missing.
    """
    known = {**others, **dict(entries)}
    texts: dict[int, bytes] = {}

    def whole(stored: bytes) -> bytes:
        found = _REFERENCE.search(stored)
        if found is None:
            return stored
        at = int(found[1])
        if at not in texts:
            texts[at] = orjson.dumps(orjson.loads(known[at])["instruction"])
        return stored[: found.start()] + b',"instruction":' + texts[at] + b"}"

    return [(seq, whole(stored)) for seq, stored in entries]
