"""Standard output and error in any encoding: what it cannot say is escaped instead of ending the command."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Final

_HANDLER: Final = "editthinker.json"


def never_fail() -> None:
    """Escape as JSON does, so that what ``--json`` prints is still JSON."""
    codecs.register_error(_HANDLER, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
