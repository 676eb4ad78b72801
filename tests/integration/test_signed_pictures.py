"""Served pictures are signed by every road; what an upload carries is in their chain, broken or not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.imaging import marks
from services.imaging.containers import strip_metadata
from tests.doubles.exiftool import source_type
from tests.doubles.signing import Certificate, signing_service
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_provenance import edit, pixels, session

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


def is_signed(certificate: Certificate, folder: Path, data: bytes) -> dict[str, Any]:
    """c2pa's reader trusts it, exiftool reads the IPTC mark, and the pixels are those of the bare file. Its active manifest."""
    state, store = certificate.read(data, media_type(data))
    assert state == "Trusted", store
    manifest: dict[str, Any] = store["manifests"][store["active_manifest"]]
    opened, edited = manifest["assertions"][0]["data"]["actions"]
    assert opened["action"] == "c2pa.opened" and edited["action"] == "c2pa.edited"
    assert edited["digitalSourceType"] == marks.EDITED_BY_MODEL and edited["softwareAgent"]["name"] == "double"
    assert edited["parameters"]["editthinker.thinker"] == "double"
    assert source_type(folder, data) == marks.EDITED_BY_MODEL
    bare = strip_metadata(data)
    assert bare is not None and pixels(bare) == pixels(data)
    return manifest


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
        for data in found:
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
    failure: str, start_orchestrator: Start, certificate: Certificate, script: Script, tmp_path: Path
) -> None:
    """The key belongs to another certificate."""
    (tmp_path / "other").mkdir()
    other = Certificate.made(tmp_path / "other")
    settings = {**certificate.settings, "EDITTHINKER_C2PA_KEY": other.credentials.key, "EDITTHINKER_C2PA_FAILURE": failure}
    server = start_orchestrator(**settings)
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as api:
        reply = api.get(session(api)["urls"]["image"])
        counted = api.get("/metrics").text
    assert 'editthinker_pictures_signed_total{outcome="failed"} 1.0' in counted
    if failure == "refuse":
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "signing_failed"
        assert int(reply.headers["retry-after"]) > 0
    else:
        assert reply.status_code == 200 and source_type(tmp_path, reply.content) == marks.EDITED_BY_MODEL
        assert 'editthinker_pictures_signed_total{outcome="unsigned"} 1.0' in counted
