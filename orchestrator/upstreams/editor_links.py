"""Pictures that an editor answers as links in place of base64: fetched from the hosts that the operator allows, and no others.

A link is the editor's word, and an editor may be somebody else's server: without the list it could make this one request any
address in the operator's network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpx

from orchestrator.egress.fetch import fetch_image
from orchestrator.egress.resolver import NameResolver
from orchestrator.ports.errors import EditorError
from services.errors import ApiError, shown

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class EditorLinks:
    """Fetches the pictures of one editor.

    Attributes:
        base: the editor's URL, to which links may be relative.
        hosts: names or addresses, each with a port or for all ports.
        resolver: resolves them.
    """

    base: str
    hosts: tuple[str, ...] = ()
    resolver: NameResolver = field(default_factory=NameResolver)

    async def fetch(self, link: str, *, tenant: str, max_bytes: int) -> bytes:
        """The picture behind a link.

        Raises:
            EditorError: ``editor_bad_reply`` when its host is not allowed, or it cannot be fetched.
        """
        url, host, port = _parsed(self.base, link)
        if not host or not {host, f"{host}:{port}"} & set(self.hosts):
            where = shown(f"{host}:{port}" if host else "no host")
            message = (
                f"the editor answered a link to {where} in place of b64_json; make it answer base64, "
                "or have the operator add the host to image_hosts of this editor"
            )
            raise EditorError("editor_bad_reply", message)

        async def reserve(_: int) -> None:
            """Replies of editors are bounded by the edits in flight."""

        try:
            return await fetch_image(
                url,
                max_bytes=max_bytes,
                param="the editor's link",
                tenant=tenant,
                resolver=self.resolver,
                reserve=reserve,
                trusted=True,
            )
        except ApiError as exc:
            raise EditorError("editor_bad_reply", exc.message, retryable=exc.code == "url_unreachable") from exc


def _parsed(base: str, link: str) -> tuple[str, str, int | None]:
    """The URL of a link, its host and its port; no host where it has none, or cannot be read."""
    try:
        url = urljoin(f"{base}/", link)
        # The same reading as that of the request.
        parsed = httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        return link, "", None
    return url, parsed.raw_host.decode("ascii").lower(), parsed.port or _PORTS.get(parsed.scheme)
