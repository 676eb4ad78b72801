"""What cannot sign is refused at the start, in a sentence that names the setting."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.containers.deployment_files import orchestrator
from tests.doubles.signing import Certificate

UPSTREAM = json.dumps({"x": {"url": "http://127.0.0.1:1/v1", "model": "x"}})
RIGHT = {"EDITTHINKER_EDITORS": UPSTREAM, "EDITTHINKER_THINKERS": UPSTREAM}
NAMES = {name: f"EDITTHINKER_C2PA_{name.upper()}" for name in ("certificate", "key", "algorithm", "trust", "failure")}


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate.made(tmp_path / "right")


def told(right: Certificate, /, **other: str) -> str:
    """Why these settings are refused; empty if they are accepted."""
    settings = {**RIGHT, **right.settings, **{NAMES[name]: value for name, value in other.items()}}
    try:
        orchestrator({name: value for name, value in settings.items() if value})
    except ValidationError as exc:
        (error,) = exc.errors()
        return str(error["msg"])
    return ""


def test_a_certificate_and_its_key_are_accepted(certificate: Certificate) -> None:
    assert told(certificate) == ""


@pytest.mark.parametrize("name", ["certificate", "key", "trust"])
def test_a_file_that_is_missing_or_is_something_else_is_named(name: str, certificate: Certificate, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert f"c2pa_{name}: {missing} cannot be read: No such file or directory" in told(certificate, **{name: str(missing)})
    other = tmp_path / "other.pem"
    other.write_bytes(b"no certificate\x00")
    assert re.search(rf"c2pa_{name}: the file has no .* in PEM that can be read", told(certificate, **{name: str(other)}))


def test_a_key_of_another_certificate_is_refused(certificate: Certificate, tmp_path: Path) -> None:
    other = Certificate.made(tmp_path / "other").credentials.key
    assert "c2pa_key: it is not the key of c2pa_certificate" in told(certificate, key=other)


@pytest.mark.parametrize("algorithm", ["es384", "ps256", "ed25519"])
def test_an_algorithm_of_other_keys_is_refused(algorithm: str, certificate: Certificate) -> None:
    assert f"c2pa_algorithm: the certificate's key cannot sign with {algorithm}" in told(certificate, algorithm=algorithm)


def test_a_root_in_place_of_the_signer_is_refused(certificate: Certificate) -> None:
    assert "signed itself" in told(certificate, certificate=str(certificate.folder / "root.pem"))


def test_an_expired_certificate_is_refused_unless_pictures_may_be_unsigned(tmp_path: Path) -> None:
    old = Certificate.made(tmp_path / "old", dt.timedelta(days=400))
    assert re.search(r"c2pa_certificate: it expired on \d{4}-\d\d-\d\d; renew it", told(old))
    assert told(old, failure="unsigned") == ""
    new = Certificate.made(tmp_path / "new", dt.timedelta(days=-2))
    assert "c2pa_certificate: it is not valid before" in told(new)


def test_a_key_and_a_url_belong_to_a_certificate(certificate: Certificate) -> None:
    assert "c2pa_certificate is missing" in told(certificate, certificate="")
    assert "set one of EDITTHINKER_C2PA_KEY and EDITTHINKER_C2PA_SIGN_URL" in told(certificate, key="")
