"""Served pictures are signed by every road; what an upload carries is in their chain, broken or not."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
from starlette.responses import JSONResponse
from typer.testing import CliRunner

from editthinker.cli.app import app as cli
from services.imaging import marks
from services.imaging.containers import strip_metadata
from tests.doubles.exiftool import source_type
from tests.doubles.processes import Process
from tests.doubles.signing import Certificate, faulty_service, signing_service
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_provenance import edit, pixels, session
from tests.integration.test_retention import archived
from tests.integration.test_takeover import until

INSTRUCTION_LETTERS = b"an instruction that nobody else may read"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate.made(tmp_path)


@pytest.fixture
def signed_api(start_orchestrator: Start, certificate: Certificate) -> Iterator[httpx.Client]:
    server = start_orchestrator(**certificate.settings)
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


def media_type(data: bytes) -> str:
    return "image/png" if data[:1] == b"\x89" else "image/jpeg" if data[:1] == b"\xff" else "image/webp"


def is_signed(certificate: Certificate, folder: Path, data: bytes, told: str = marks.EDITED_BY_MODEL) -> dict[str, Any]:
    """c2pa's reader trusts it, exiftool reads the IPTC mark, and the pixels are those of the bare file. Its active manifest."""
    state, store = certificate.read(data, media_type(data))
    assert state == "Trusted", store
    manifest: dict[str, Any] = store["manifests"][store["active_manifest"]]
    opened, edited = manifest["assertions"][0]["data"]["actions"]
    assert opened["action"] == "c2pa.opened" and edited["action"] == "c2pa.edited"
    assert edited["digitalSourceType"] == marks.EDITED_BY_MODEL and edited["softwareAgent"]["name"] == "double"
    assert edited["parameters"]["editthinker.thinker"] == "double"
    assert source_type(folder, data) == told
    bare = strip_metadata(data)
    assert bare is not None and pixels(bare) == pixels(data)
    return manifest


def by_command_line(api: httpx.Client, output: Path) -> bytes:
    """The picture that ``editthinker edit -o`` writes."""
    source = output.parent / "source.png"
    source.write_bytes(picture())
    arguments = ["edit", str(source), "x", "-o", str(output), "--server", str(api.base_url), "--max-turns", "1"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return output.read_bytes()


def test_every_road_and_format_is_signed(signed_api: httpx.Client, certificate: Certificate, tmp_path: Path) -> None:
    api = signed_api
    for kind in ("png", "jpeg", "webp"):
        inline = edit(api, output_format=kind, n=2).json()["data"]
        linked = edit(api, output_format=kind, response_format="url").json()["data"]
        text = edit(api, output_format=kind, stream="true", partial_images=1).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        found = [base64.b64decode(each["b64_json"]) for each in (*inline, *events)]
        found += [api.get(each["url"]).content for each in linked]
        assert len(found) == 5
        # No score satisfies: the second candidate is not left out once the first one does.
        made = session(api, strategy="best_of_n", candidates=2, semantic_threshold=10, quality_threshold=10)
        urls = [made["urls"]["image"], *(each["image"]["url"] for turn in made["turns"] for each in turn["candidates"])]
        found += [api.get(url, params={"format": kind}).content for url in urls]
        assert len(urls) == 3
        found.append(by_command_line(api, tmp_path / f"a.{kind}"))
        for data in found:
            assert media_type(data) == f"image/{kind}"
            is_signed(certificate, tmp_path, data)
    counted = api.get("/metrics").text
    assert 'editthinker_pictures_signed_total{outcome="signed"}' in counted
    assert 'editthinker_pictures_signed_total{outcome="failed"} 0.0' in counted


def test_a_signed_picture_is_signed_once_and_tells_nothing_private(
    signed_api: httpx.Client, certificate: Certificate, tmp_path: Path
) -> None:
    """A repeat, a range and a conditional request are about the same bytes."""
    found = session(signed_api, prompt=INSTRUCTION_LETTERS.decode())
    url = found["turns"][0]["candidates"][0]["image"]["url"]
    whole = signed_api.get(url)
    is_signed(certificate, tmp_path, whole.content)
    assert signed_api.get(url).content == whole.content
    tag = whole.headers["etag"]
    assert signed_api.get(url, headers={"if-none-match": tag}).status_code == 304
    part = signed_api.get(url, headers={"range": "bytes=100-299", "if-range": tag})
    assert part.status_code == 206 and part.content == whole.content[100:300]
    for private in (INSTRUCTION_LETTERS, found["id"].encode()):
        assert private not in whole.content


def test_an_uploads_manifest_is_in_the_chain_of_the_result(
    signed_api: httpx.Client, certificate: Certificate, tmp_path: Path
) -> None:
    upload = certificate.camera(picture(), "image/png", marks.GENERATED)
    found = session(signed_api, upload)
    assert found["source"]["carried"] == {"digital_source_type": marks.GENERATED, "c2pa": "trusted", "reasons": []}
    data = signed_api.get(found["urls"]["image"]).content
    state, store = certificate.read(data, "image/png")
    assert state == "Trusted"
    (parent,) = store["manifests"][store["active_manifest"]]["ingredients"]
    assert parent["relationship"] == "parentOf"
    origin = store["manifests"][parent["active_manifest"]]
    assert origin["claim_generator_info"][0]["name"] == "Camera"
    assert origin["assertions"][0]["data"]["actions"][0]["digitalSourceType"] == marks.GENERATED
    # What says most of being synthetic is what the file says in IPTC.
    assert source_type(tmp_path, data) == marks.GENERATED
    source = signed_api.get(found["source"]["url"]).content
    state, store = certificate.read(source, "image/png")
    actions = store["manifests"][store["active_manifest"]]["assertions"][0]["data"]["actions"]
    assert state == "Trusted" and [each["action"] for each in actions] == ["c2pa.opened", "c2pa.transcoded"]
    assert source_type(tmp_path, source) == marks.GENERATED and pixels(source) == pixels(upload)


def test_a_broken_manifest_is_told_and_not_hidden(signed_api: httpx.Client, certificate: Certificate) -> None:
    upload = bytearray(certificate.camera(picture(640, 480), "image/png", f"{marks.VOCABULARY}digitalCapture"))
    # In the manifest, not in the pixels, which must stay readable.
    at = upload.index(b"digitalCapture")
    upload[at] ^= 1
    crc = bytearray(upload)
    import zlib  # noqa: PLC0415 - for this alone

    begin = crc.index(b"caBX") - 4
    size = int.from_bytes(crc[begin : begin + 4], "big")
    crc[begin + 8 + size : begin + 12 + size] = zlib.crc32(crc[begin + 4 : begin + 8 + size]).to_bytes(4, "big")
    found = session(signed_api, bytes(crc))
    carried = found["source"]["carried"]
    assert carried["c2pa"] == "invalid" and any("mismatch" in reason for reason in carried["reasons"])
    data = signed_api.get(found["urls"]["image"]).content
    told = signed_api.post("/v1/provenance", content=data, headers={"content-type": "image/png"}).json()
    assert told["c2pa"]["state"] == "trusted" and told["tampered"] == []
    (parent,) = told["c2pa"]["ingredients"]
    assert parent["state"] == "invalid" and any("mismatch" in reason for reason in parent["reasons"])


def test_a_service_signs_in_place_of_a_key(start_orchestrator: Start, certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token\n")
    with signing_service(certificate, "secret-token") as (url, signed):
        settings = {
            **certificate.settings,
            "EDITTHINKER_C2PA_SIGN_URL": url,
            "EDITTHINKER_C2PA_SIGN_TOKEN": str(tmp_path / "token"),
        }
        del settings["EDITTHINKER_C2PA_KEY"]
        server = start_orchestrator(**settings)
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
            is_signed(certificate, tmp_path, api.get(session(api)["urls"]["image"]).content)
    assert len(signed) == 1


@pytest.mark.parametrize("failure", ["refuse", "unsigned"])
def test_a_failed_signature_refuses_or_leaves_the_other_mark_and_is_counted(
    failure: str, start_orchestrator: Start, certificate: Certificate, tmp_path: Path
) -> None:
    """By every road: a link, inline, and in a stream, whose head was sent before. The caller is told no more than that."""
    with faulty_service(500, b"its Traceback") as url:
        settings = {**certificate.settings, "EDITTHINKER_C2PA_SIGN_URL": url, "EDITTHINKER_C2PA_FAILURE": failure}
        del settings["EDITTHINKER_C2PA_KEY"]
        server = start_orchestrator(**settings)
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
            reply = api.get(session(api)["urls"]["image"])
            data = {"prompt": "x", "max_turns": "1"}
            form: dict[str, Any] = {"files": {"image": ("a.png", picture(), "image/png")}, "data": data}
            inline = api.post("/v1/images/edits", **form)
            form["data"]["stream"] = "true"
            stream = api.post("/v1/images/edits", **form).text
            counted = api.get("/metrics").text
    failed = float(re.findall(r'editthinker_pictures_signed_total\{outcome="failed"\} (\S+)', counted)[0])
    unsigned = float(re.findall(r'editthinker_pictures_signed_total\{outcome="unsigned"\} (\S+)', counted)[0])
    assert failed >= 3
    if failure == "refuse":
        for each in (reply, inline):
            assert each.status_code == 503 and int(each.headers["retry-after"]) > 0
            assert each.json()["error"]["code"] == "signing_failed"
            assert each.json()["error"]["message"] == "the picture could not be signed; retry later"
        assert "event: error" in stream and "signing_failed" in stream and "Traceback" not in stream
        assert unsigned == 0
    else:
        event = json.loads(stream.rpartition("data: ")[2])
        found = [reply.content, *(base64.b64decode(each) for each in (inline.json()["data"][0]["b64_json"], event["b64_json"]))]
        assert [source_type(tmp_path, data) for data in found] == [marks.EDITED_BY_MODEL] * 3
        assert unsigned == failed


def test_a_signing_url_that_never_answers_ends_the_request(
    start_orchestrator: Start, certificate: Certificate, tmp_path: Path
) -> None:
    with faulty_service(200, b"", hangs=True) as url:
        settings = {**certificate.settings, "EDITTHINKER_C2PA_SIGN_URL": url}
        del settings["EDITTHINKER_C2PA_KEY"]
        server = start_orchestrator(**settings)
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as api:
            reply = api.get(session(api)["urls"]["image"])
    assert reply.status_code == 503 and reply.json()["error"]["code"] == "signing_failed"


def test_a_server_with_a_key_of_another_certificate_does_not_start(certificate: Certificate, tmp_path: Path) -> None:
    key = Certificate.made(tmp_path / "other").credentials.key
    upstream = json.dumps({"x": {"url": "http://127.0.0.1:1/v1", "model": "x"}})
    settings = {**certificate.settings, "EDITTHINKER_C2PA_KEY": key}
    settings |= {"EDITTHINKER_EDITORS": upstream, "EDITTHINKER_THINKERS": upstream, "EDITTHINKER_BLOBS": str(tmp_path)}
    command = [sys.executable, "-m", "orchestrator", "serve"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "it is not the key of c2pa_certificate; name the two that belong together" in done.stderr


def test_an_editors_own_marks_are_kept_with_those_of_the_upload(
    signed_api: httpx.Client, certificate: Certificate, script: Script, tmp_path: Path
) -> None:
    """Services sign what they make: their manifest is an ingredient of ours, and their type is the picture's if it says more."""
    of_editor = certificate.camera(picture(shade=3), "image/png", marks.GENERATED, "Service")
    answer = {"b64_json": base64.b64encode(of_editor).decode()}
    script.edit_fault = lambda _: JSONResponse({"created": 0, "data": [answer]})
    upload = certificate.camera(picture(), "image/png", f"{marks.VOCABULARY}digitalCapture")
    found = session(signed_api, upload, max_turns=1)
    image = found["turns"][0]["candidates"][0]["image"]
    assert image["carried"] == {
        "digital_source_type": marks.GENERATED,
        "c2pa": "valid",
        "reasons": ["signingCredential.untrusted"],
    }
    for kind in ("png", "jpeg", "webp"):
        data = signed_api.get(image["url"], params={"format": kind}).content
        state, store = certificate.read(data, f"image/{kind}")
        manifest = store["manifests"][store["active_manifest"]]
        assert state == "Trusted" and source_type(tmp_path, data) == marks.GENERATED
        actions = [each["action"] for each in manifest["assertions"][0]["data"]["actions"]]
        assert actions == ["c2pa.opened", "c2pa.placed", "c2pa.edited"]
        parents = {each["relationship"]: store["manifests"][each["active_manifest"]] for each in manifest["ingredients"]}
        made_by = {relation: each["claim_generator_info"][0]["name"] for relation, each in parents.items()}
        assert made_by == {"parentOf": "Camera", "componentOf": "Service"}


def test_what_an_archived_session_serves_is_signed_with_its_chain(
    start_orchestrator: Start, redis: Process, certificate: Certificate, tmp_path: Path
) -> None:
    """Another replica serves it, from the archive alone, after the first one died."""
    database = redis_client.Redis(port=redis.port, db=1)
    settings = {**certificate.settings, "EDITTHINKER_REDIS_RETENTION_S": "1"}
    first = start_orchestrator(**settings)
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
        found = session(api, certificate.camera(picture(), "image/png", marks.GENERATED), max_turns=1)
        until((tmp_path / "blobs" / found["id"] / "session.json").exists)
        archived(database, found["id"])
    first.kill()
    again = start_orchestrator(**settings)
    with httpx.Client(base_url=again.url, timeout=30, trust_env=False) as api:
        shown = api.get(f"/v1/sessions/{found['id']}").json()
        assert shown["source"]["carried"]["c2pa"] == "trusted"
        for kind in ("png", "jpeg", "webp"):
            data = api.get(found["urls"]["image"], params={"format": kind}).content
            manifest = is_signed(certificate, tmp_path, data, marks.GENERATED)
            assert manifest["ingredients"][0]["relationship"] == "parentOf" and manifest["ingredients"][0]["active_manifest"]
