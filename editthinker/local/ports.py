"""Free ports on loopback, and whether one is taken."""

from __future__ import annotations

import errno
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"


def free_port() -> int:
    """A port that the kernel will give to nobody else for a minute, but that can be bound by naming it.

    Asking for port 0 and closing the socket leaves a gap in which another process may be given the same port. So a
    connection is made over it and closed from the listening side first: the port then rests in TIME_WAIT, where the
    kernel does not hand it out again, while servers, which set SO_REUSEADDR, can still bind it.
    """
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        # Only now: set before, the kernel might hand out a port that already rests for somebody else; not set at
        # all, a server could not bind the resting port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(1)
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as visitor:
            accepted, _ = listener.accept()
            accepted.close()
            visitor.recv(1)
        return int(address[1])


def is_taken(port: int) -> bool:
    """Whether something listens on the port, or it may not be bound.

    Raises:
        OSError: when binding fails for a reason that another port would not mend, such as a missing permission.
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
