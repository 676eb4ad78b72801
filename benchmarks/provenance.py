"""What marks cost: milliseconds and bytes of each road and format, and whether independent readers find the marks.

    python -m benchmarks.provenance [--size 1024] [--repeats 15]

Starts the embedded editor and thinker behind two orchestrators, one that signs with a development certificate and one that does
not, and reads every picture back with c2pa-python's own reader and with exiftool.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from orchestrator.api.signing import Claim
from services.imaging import marks
from services.imaging.alpha import HEAD_BYTES
from services.imaging.codec import OutputFormat, decode, encode
from services.imaging.containers import strip_metadata
from services.imaging.manifests import Credentials, ingredient, sign, summary
from tests.doubles.exiftool import tags
from tests.doubles.processes import free_port, module, redis_server, wait_ready
from tests.doubles.signing import Certificate

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
PROMPT = "make it warmer and brighter"


def median_ms(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def photograph(side: int) -> Image.Image:
    with Image.open("examples/photos/coffee.jpg") as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def steps(image: Image.Image, certificate: Certificate, repeats: int) -> None:
    """Each step alone, in this process."""
    edited = {"action": "c2pa.edited", "digitalSourceType": marks.EDITED_BY_MODEL}
    plain, chain = Claim(edited, "image/png"), Claim(edited, "image/png", "archived")
    credentials: Credentials = certificate.credentials
    xmp = marks.packet(marks.EDITED_BY_MODEL)
    print(f"| {image.width} x {image.height} | bytes | IPTC ms | + bytes | read ms | sign ms | + bytes | chain ms | + bytes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in FORMATS:
        data = encode(image, kind)
        upload = certificate.camera(data, f"image/{kind}", marks.GENERATED)
        archive = ingredient(upload, f"image/{kind}")

        def written(data: bytes = data) -> bytes:
            return marks.spliced(data, marks.splices(data[:HEAD_BYTES], len(data), xmp))

        marked = written()

        def signed(archive: bytes, marked: bytes = marked, kind: str = kind) -> bytes:
            claim = chain if archive else plain
            return sign(marked, f"image/{kind}", claim.definition(), [archive] if archive else [], credentials)

        alone, chained = signed(b""), signed(archive)
        assert decode(chained).tobytes() == decode(data).tobytes()
        row = [
            f"{len(data):,}",
            f"{median_ms(written, repeats):.2f}",
            len(marked) - len(data),
            f"{median_ms(partial(marks.read, marked), repeats):.2f}",
            f"{median_ms(partial(signed, b''), repeats):.0f}",
            f"{len(alone) - len(marked):,}",
            f"{median_ms(partial(signed, archive), repeats):.0f}",
            f"{len(chained) - len(marked):,}",
        ]
        assert summary(chained, f"image/{kind}")["ingredients"][0]["generator"] == "Camera 1"
        print(f"| {kind} | " + " | ".join(map(str, row)) + " |")


class Roads:
    """One server, and every way to get a picture from it."""

    def __init__(self, url: str, source: bytes) -> None:
        self.url = url
        self.api = httpx.Client(base_url=url, timeout=120, trust_env=False)
        self.form = {"files": {"image": ("a.png", source, "image/png")}}

    def edit(self, kind: str, **fields: str) -> httpx.Response:
        """One call of OpenAI's endpoint."""
        data = {"prompt": PROMPT, "max_turns": "1", "seed": "1", "output_format": kind, **fields}
        return self.api.post("/v1/images/edits", data=data, **self.form).raise_for_status()  # type: ignore[arg-type]

    def session(self) -> dict[str, Any]:
        """A finished session of one turn."""
        data, wait = {"prompt": PROMPT, "max_turns": "1", "seed": "1"}, {"prefer": "wait=60"}
        made: dict[str, Any] = self.api.post("/v1/sessions", data=data, headers=wait, **self.form).json()  # type: ignore[arg-type]
        return made

    def pictures(self, kind: str, folder: Path) -> dict[str, tuple[float, bytes]]:
        """Milliseconds of the request that hands it out, and the picture, by road."""
        found: dict[str, tuple[float, bytes]] = {}

        def get(name: str, path: str, **query: str) -> None:
            began = time.perf_counter()
            data = self.api.get(path, params=query or None).raise_for_status().content
            found[name] = ((time.perf_counter() - began) * 1000, data)

        several = self.edit(kind, n="2", strategy="best_of_n").json()["data"]
        found["inline, n = 2"] = (float("nan"), base64.b64decode(several[1]["b64_json"]))
        events = [json.loads(line[6:]) for line in self.edit(kind, stream="true").text.splitlines() if line.startswith("data: ")]
        found["completed event"] = (float("nan"), base64.b64decode(events[-1]["b64_json"]))
        get("link", self.edit(kind, response_format="url").json()["data"][0]["url"])
        session = self.session()
        get("result", session["urls"]["image"], format=kind)
        get("candidate", session["turns"][0]["candidates"][0]["image"]["url"], format=kind)
        get("candidate, again", session["turns"][0]["candidates"][0]["image"]["url"], format=kind)
        output = folder / f"cli.{kind}"
        (folder / "in.png").write_bytes(self.form["files"]["image"][1])
        command = [
            "edit",
            str(folder / "in.png"),
            PROMPT,
            "--max-turns",
            "1",
            "--seed",
            "1",
            "--server",
            self.url,
            "-q",
            "-o",
            str(output),
        ]
        subprocess.run([sys.executable, "-m", "editthinker", *command], check=True)
        found["command line"] = (float("nan"), output.read_bytes())
        return found


def check(folder: Path, data: bytes, kind: str, certificate: Certificate | None) -> str:
    """What the independent readers say; raises where one of them does not find what it should."""
    read = tags(folder, data)
    assert read["ExifTool:Validate"].startswith("OK"), read
    assert read["XMP-iptcExt:DigitalSourceType"] == marks.EDITED_BY_ALGORITHM
    bare = strip_metadata(data)
    assert bare is not None
    assert decode(bare).tobytes() == decode(data).tobytes()
    if certificate is None:
        return "IPTC"
    state, store = certificate.read(data, f"image/{kind}")
    assert state == "Trusted", store
    return "IPTC, C2PA trusted"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    image = photograph(options.size)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        certificate = Certificate.made(folder)
        steps(image, certificate, options.repeats)
        redis = stack.enter_context(redis_server(folder))
        editor = module("services.editor", free_port(), folder / "editor.log", "--pipeline", "classical")
        thinker = module("services.thinker", free_port(), folder / "thinker.log", "--profile", "rules")
        stack.callback(editor.stop)
        stack.callback(thinker.stop)
        base = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({"embedded": {"url": f"{editor.url}/v1"}}),
            "EDITTHINKER_THINKERS": json.dumps({"embedded": {"url": f"{thinker.url}/v1", "model": "embedded"}}),
            "EDITTHINKER_JUDGE_CHECK": "off",
        }
        print("\n| road | format | marks found | ms, not signed | ms, signed | bytes, not signed | bytes, signed |")
        print("|---|---|---|---|---|---|---|")
        roads = []
        for extra in ({}, certificate.settings):
            server = module("orchestrator", free_port(), folder / "orchestrator.log", env={**base, **extra})
            stack.callback(server.stop)
            wait_ready(server)
            roads.append(Roads(server.url, encode(image, "png")))
        for kind in FORMATS:
            plain, signed = (each.pictures(kind, folder) for each in roads)
            for road, (ms, data) in plain.items():
                signed_ms, signed_data = signed[road]
                check(folder, data, kind, None)
                told = check(folder, signed_data, kind, certificate)
                times = " | ".join("" if each != each else f"{each:.0f}" for each in (ms, signed_ms))  # noqa: PLR0124 - NaN
                print(f"| {road} | {kind} | {told} | {times} | {len(data):,} | {len(signed_data):,} |")


if __name__ == "__main__":
    main()
