"""An HTML page in one file: what every page of the project has around its content, and the policy that it can do nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Final

_DOCUMENT: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}</main>
{script}</body>
</html>
"""


def document(title: str, body: str, style: str, script: str = "") -> str:
    """A page.

    Args:
        title: as HTML, as is `body`.
        style: in addition to the colours of `tokens.css`.
        script: none if empty.
    """
    style = asset("tokens.css") + style
    return _DOCUMENT.format(
        policy=_policy(style, script),
        title=title,
        style=style,
        body=body,
        script=f"<script>{script}</script>\n" if script else "",
    )


def asset(name: str) -> str:
    """A file of this package: ``tokens.css`` has the colours."""
    return files("editthinker.report").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content Security Policy Level 3: this style, this script and pictures of the file; nothing is loaded or sent."""
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style-src", style), ("script-src", script))
        if text
    }
    own = "; ".join(f"{name} 'sha256-{digest}'" for name, digest in hashes.items())
    return f"default-src 'none'; img-src data:; {own}; base-uri 'none'; form-action 'none'"
