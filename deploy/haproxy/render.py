"""The pool's configuration with a plain list of servers, for machines without DNS: ``render.py HOST:PORT … > static.cfg``."""  # noqa: INP001

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("editors.cfg")
_TEMPLATE = re.compile(r"^( *)server-template .*$", re.MULTILINE)
_RESOLVERS = re.compile(r"^resolvers .*?(?=^defaults$)", re.MULTILINE | re.DOTALL)
_ADDRESS = re.compile(r"[\w.:\[\]-]+:\d+")


def render(editors: Sequence[str]) -> str:
    """Return `editors.cfg` with these workers instead of a DNS name; its other variables are unchanged.

    Raises:
        ValueError: an editor is not ``host:port``, or none is given.
    """
    if not editors:
        raise ValueError("name at least one editor as host:port")
    for address in editors:
        if not _ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is not host:port")

    def servers(line: re.Match[str]) -> str:
        return "\n".join(f"{line[1]}server editor{number} {address}" for number, address in enumerate(editors, 1))

    return _TEMPLATE.sub(servers, _RESOLVERS.sub("", SOURCE.read_text()))


if __name__ == "__main__":
    sys.stdout.write(render(sys.argv[1:]))
