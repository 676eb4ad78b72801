"""The load generator: sends a trace to a server at its own times (open loop)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.editing.servers import Record, Server
from benchmarks.editing.trace import Request


def replay(server: Server, trace: Sequence[Request], unit_s: float, limit_s: float) -> list[Record]:
    """Send every request, cancel those whose callers give up, and wait for the rest.

    Args:
        server: the server under test.
        trace: the requests.
        unit_s: seconds of the trace's unit of time.
        limit_s: seconds that the server may take after the last event.

    Raises:
        TimeoutError: when it takes longer.
    """
    start = time.perf_counter() + 0.05
    records = [Record(request, start + request.at * unit_s) for request in trace]
    events = [(record.arrived, False, record) for record in records]
    events += [
        (record.arrived + record.request.patience * unit_s, True, record)
        for record in records
        if record.request.patience is not None
    ]
    for due, leaves, record in sorted(events, key=lambda event: (event[0], event[2].request.number, event[1])):
        time.sleep(max(0.0, due - time.perf_counter()))
        if not leaves:
            server.submit(record)
        elif record.done is None:
            server.cancel(record)
    server.settle(limit_s)
    return records
