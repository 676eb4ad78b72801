"""curl in all the ways in which people spell an edit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.clients.server import PROMPT, Check, Client, Server


def _version(_: Server) -> str:
    done = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


CURL = Client("curl", _version)


def curl(server: Server, *arguments: str, stdin: bytes = b"", path: str = "/v1/images/edits") -> bytes:
    """What curl prints."""
    command = ["curl", "--silent", "--show-error", "--max-time", "120", "--noproxy", "*"]
    command += ["-H", f"Authorization: Bearer {server.key}", *arguments, f"{server.url}{path}"]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=150, check=False, cwd=server.folder)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _form(*arguments: str, stdin: bool = False, form: str = "PNG") -> Callable[[Server], None]:
    def run(server: Server) -> None:
        given = server.photo.read_bytes() if stdin else b""
        server.check_reply(curl(server, *arguments, "-F", f"prompt={PROMPT}", stdin=given), form)

    return run


def _prompt_from_a_file(server: Server) -> None:
    (server.folder / "prompt.txt").write_text(f"{PROMPT}\n")
    server.check_reply(curl(server, "-F", "image=@photo.png", "-F", "prompt=<prompt.txt"))


def _json(server: Server) -> None:
    (server.folder / "body.json").write_text(json.dumps({"prompt": PROMPT, "images": [{"image_url": server.data_url}]}))
    server.check_reply(curl(server, "--json", "@body.json"))


def _urlencoded(server: Server) -> None:
    (server.folder / "url.txt").write_text(server.data_url)
    server.check_reply(curl(server, "--data-urlencode", f"prompt={PROMPT}", "--data-urlencode", "url@url.txt"))


def _stream(server: Server) -> None:
    text = curl(server, "-N", "-F", "image=@photo.png", "-F", f"prompt={PROMPT}", "-F", "stream=true").decode()
    last = text.strip().split("\n\n")[-1]
    assert last.startswith("event: image_edit.completed"), last[:200]
    server.check(json.loads(last.partition("data: ")[2])["b64_json"])


def _link(server: Server) -> None:
    body = json.loads(curl(server, "-F", "image=@photo.png", "-F", f"prompt={PROMPT}", "-F", "response_format=url"))
    link = urlsplit(body["data"][0]["url"])
    server.check(curl(server, path=f"{link.path}?{link.query}"))


def _session(server: Server) -> None:
    """The other endpoint, and its answer at once."""
    wait = ("-H", "Prefer: wait=60")
    made = json.loads(curl(server, *wait, "-F", "image=@photo.png", "-F", f"prompt={PROMPT}", path="/v1/sessions"))
    assert made["status"] == "succeeded", made
    server.check(curl(server, path=f"/v1/sessions/{made['id']}/image"))


CLIENTS = (CURL,)
_IMAGE = ("-F", "image=@photo.png")
_SEVERAL = ("-F", "model=gpt-image-1")
CHECKS = tuple(
    Check(CURL.name, name, run, light=True)
    for name, run in {
        "`-F image=@photo.png`": _form(*_IMAGE),
        "`-F image[]=@photo.png`": _form("-F", "image[]=@photo.png"),
        "`-F image[]=@…` twice": _form("-F", "image[]=@photo.png", "-F", "image[]=@second.jpg", *_SEVERAL),
        "`-F image[0]=@… -F image[1]=@…`": _form("-F", "image[0]=@photo.png", "-F", "image[1]=@second.jpg", *_SEVERAL),
        "`-F 'image=@photo.png;type=application/octet-stream'`": _form("-F", "image=@photo.png;type=application/octet-stream"),
        "`-F image=@-` (standard input)": _form("-F", "image=@-", stdin=True),
        "`-F 'mask=;filename='` (an empty file input)": _form(*_IMAGE, "-F", "mask=;filename="),
        "`-F 'prompt=<prompt.txt'`": _prompt_from_a_file,
        "`-F quality=high`": _form(*_IMAGE, "-F", "quality=high"),
        "`-F output_format=jpeg -F output_compression=80`": _form(
            *_IMAGE, "-F", "output_format=jpeg", "-F", "output_compression=80", form="JPEG"
        ),
        "`-F response_format=url`": _link,
        "`-N -F stream=true`": _stream,
        "`--json` with a data URL": _json,
        "`--data-urlencode url@…`": _urlencoded,
        "`-H 'Transfer-Encoding: chunked'`": _form(*_IMAGE, "-H", "Transfer-Encoding: chunked"),
        "`-H 'Expect: 100-continue'`": _form(*_IMAGE, "-H", "Expect: 100-continue"),
        "`--compressed`": _form(*_IMAGE, "--compressed"),
        "`--http1.0`": _form(*_IMAGE, "--http1.0"),
        "`--http2`": _form(*_IMAGE, "--http2"),
        "`/v1/sessions`, `Prefer: wait=60`": _session,
    }.items()
)
