"""A certificate to sign with, and c2pa-python's own reader."""

from __future__ import annotations

import datetime as dt
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import c2pa
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from services.imaging import certificates
from services.imaging.manifests import Credentials


@dataclass(frozen=True)
class Certificate:
    """A chain in files, and the settings that sign with it."""

    folder: Path
    chain: certificates.Chain

    @classmethod
    def made(cls, folder: Path, age: dt.timedelta = dt.timedelta()) -> Certificate:
        """Files in that folder; valid for a year, which began so long ago."""
        folder.mkdir(exist_ok=True)
        chain = certificates.make("Tests", dt.datetime.now(dt.UTC) - age)
        for name, text in (("chain.pem", chain.certificates), ("key.pem", chain.key), ("root.pem", chain.root)):
            (folder / name).write_bytes(text)
        return cls(folder, chain)

    @property
    def credentials(self) -> Credentials:
        return Credentials(str(self.folder / "chain.pem"), str(self.folder / "key.pem"))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "EDITTHINKER_C2PA_CERTIFICATE": str(self.folder / "chain.pem"),
            "EDITTHINKER_C2PA_KEY": str(self.folder / "key.pem"),
            "EDITTHINKER_C2PA_TRUST": str(self.folder / "root.pem"),
        }

    def read(self, data: bytes, media_type: str) -> tuple[str, dict[str, Any]]:
        """The state that c2pa-python's reader finds, trusting this root, and the whole manifest store."""
        settings = {"verify": {"remote_manifest_fetch": False}, "trust": {"trust_anchors": self.chain.root.decode()}}
        with c2pa.Context.from_dict(settings) as context, c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
            store: dict[str, Any] = json.loads(reader.json())
            return str(reader.get_validation_state()), store

    def camera(self, data: bytes, media_type: str, source_type: str, name: str = "Camera") -> bytes:
        """A picture as another program would sign it."""
        created = {"action": "c2pa.created", "digitalSourceType": source_type}
        definition = {
            "claim_generator_info": [{"name": name, "version": "1"}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
        }
        info = c2pa.C2paSignerInfo(b"es256", self.chain.certificates, self.chain.key, None)
        made = io.BytesIO()
        with c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}}) as context:
            c2pa.Builder(definition, context=context).sign(c2pa.Signer.from_info(info), media_type, io.BytesIO(data), made)
        return made.getvalue()


@contextmanager
def faulty_service(status: int, answer: bytes, *, hangs: bool = False) -> Iterator[str]:
    """A URL that answers each request so, or takes it and answers nothing while it is there."""
    ends = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if hangs:
                ends.wait()
                return
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler, ends) as url:
        yield url


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler], ends: threading.Event | None = None) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/sign"
        finally:
            if ends is not None:
                ends.set()
            server.shutdown()
            thread.join()


@contextmanager
def signing_service(certificate: Certificate, token: str) -> Iterator[tuple[str, list[int]]]:
    """A URL that signs what it is posted, as one in front of a KMS does, and the lengths of what it was posted."""
    loaded = serialization.load_pem_private_key(certificate.chain.key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    key: ec.EllipticCurvePrivateKey = loaded
    signed: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["content-length"]))
            allowed = self.headers["authorization"] == f"Bearer {token}"
            r, s = decode_dss_signature(key.sign(payload, ec.ECDSA(hashes.SHA256())))
            answer = r.to_bytes(32, "big") + s.to_bytes(32, "big")
            signed.append(len(payload))
            self.send_response(200 if allowed else 403)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as url:
        yield url, signed
