"""EditThinker Serving for its users: a typed client, the embedded stack, and the command line.

    >>> from editthinker import EditThinker
    >>> with EditThinker("http://127.0.0.1:8080") as server:  # doctest: +SKIP
    ...     server.edit("photo.jpg", "make it feel like golden hour").save("out.png")

Nothing here imports the services: the interface is HTTP, and `editthinker.local` starts them as processes.
"""

from editthinker.client import AsyncEditThinker, EditOutcome, EditThinker, EditThinkerError, Event, Session

__all__ = ["AsyncEditThinker", "EditOutcome", "EditThinker", "EditThinkerError", "Event", "Session"]
