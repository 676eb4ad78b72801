"""Types of settings, in their own module so that the vLLM launcher does not import structlog."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

LogFormat = Literal["auto", "json", "text"]
"""``auto``: text on a terminal, JSON elsewhere."""
LogLevel = Literal["debug", "info", "warning", "error"]


def _is_http(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("it must begin with http:// or https://")
    if any(char.isspace() for char in url):
        raise ValueError("it must have no spaces")
    return url


HttpUrl = Annotated[str, AfterValidator(_is_http)]
"""A URL, or nothing. A pattern would show itself in messages."""
