"""Free ports on loopback, and whether a port is in use."""

from __future__ import annotations

import errno
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"


def free_port() -> int:
    """A port that the kernel hands out to no other process for a minute, but that can be bound by its number.

    Binding port 0 and closing the socket leaves a gap in which another process may get the same port. So a connection
    is made over it and closed from the listening side first: the port is then in TIME_WAIT, and the kernel does not
    hand it out again, while servers, which set SO_REUSEADDR, can still bind it.
    """
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        # After bind, so that the kernel does not hand out a port that is in TIME_WAIT for another caller. Without it, a
        # server could not bind the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(1)
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as peer:
            accepted, _ = listener.accept()
            accepted.close()
            peer.recv(1)
        return int(address[1])


def is_taken(port: int) -> bool:
    """Whether the port is in use.

    Raises:
        OSError: when binding fails for another reason, such as a missing permission.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return True
            raise
    return False
