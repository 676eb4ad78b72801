"""Exports whose readers do not read."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx

from tests.integration.test_sessions import create
from tests.integration.test_takeover import until


def test_few_exports_wait_for_their_readers(api: httpx.Client) -> None:
    """Each holds the events of sixteen sessions, which may be megabytes; the slot of one that is left is free again."""
    for number in range(24):
        # Together more than the connection's buffers hold.
        assert create(api, wait=20, prompt="😀" * 23_000 + f"{number}", max_turns=1).status_code == 200
    readers = []
    for _ in range(2):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((urlsplit(str(api.base_url)).hostname, urlsplit(str(api.base_url)).port))
        reader.sendall(b"GET /v1/export HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert reader.recv(8) == b"HTTP/1.1"
        readers.append(reader)
    refused = api.get("/v1/export")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    assert "2 exports" in refused.json()["error"]["message"] and refused.headers["retry-after"]

    for reader in readers:
        reader.close()
    until(lambda: api.get("/v1/export").status_code == 200)
