"""Standard output and error in any encoding: a character that it lacks is escaped."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Final

_HANDLER: Final = "editthinker.json"


def escape_unencodable() -> None:
    """Escape characters that the encoding lacks as JSON does, so that the output of ``--json`` stays JSON."""
    codecs.register_error(_HANDLER, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
