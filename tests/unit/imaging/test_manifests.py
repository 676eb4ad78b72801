"""Manifests that others signed: what a chain makes true of its last picture, and hostile ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.imaging import manifests, marks
from services.imaging.codec import encode
from services.imaging.manifests import ANSWER, SOURCE, ManifestError, ingredient, sign, summary
from tests.doubles.signing import Certificate, faulty_service
from tests.unit.imaging.pictures import scene

PICTURE = encode(scene(), "png")
CAPTURED = f"{marks.VOCABULARY}digitalCapture"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate.made(tmp_path)


def edited(certificate: Certificate, archive: bytes, label: str) -> bytes:
    """A picture that a person made of another one, without a word on AI."""
    actions = [{"action": "c2pa.opened" if label == SOURCE else "c2pa.placed", "parameters": {"ingredientIds": [label]}}]
    if label == ANSWER:
        actions.insert(0, {"action": "c2pa.created", "digitalSourceType": CAPTURED})
    definition = {
        "claim_generator_info": [{"name": "Paint"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }
    return sign(PICTURE, "image/png", definition, [archive], certificate.credentials)


@pytest.mark.parametrize(
    ("label", "origin", "told"),
    [
        (SOURCE, marks.GENERATED, marks.GENERATED),
        (ANSWER, marks.GENERATED, marks.EDITED_BY_MODEL),
        (SOURCE, CAPTURED, None),
        (ANSWER, CAPTURED, CAPTURED),
    ],
)
def test_a_generated_parent_stays_generated_and_a_part_makes_a_composite(
    label: str, origin: str, told: str | None, certificate: Certificate
) -> None:
    """However many people edited it since, none of whom said so."""
    made = edited(certificate, ingredient(certificate.camera(PICTURE, "image/png", origin), "image/png", label), label)
    again = edited(certificate, ingredient(made, "image/png"), SOURCE)
    assert summary(made, "image/png")["digital_source_type"] == told
    assert summary(again, "image/png")["digital_source_type"] == (told if told in marks.SYNTHETIC else None)


def test_what_was_changed_after_it_was_signed_is_told() -> None:
    reasons = ["signingCredential.untrusted", "assertion.dataHash.mismatch", "claimSignature.missing", "timeStamp.untrusted"]
    assert [sentence.rpartition("(")[2] for sentence in manifests.changed(reasons)] == [f"{code})" for code in reasons[1:3]]


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (500, b"", "HTTP Error 500"),
        (403, b"", "HTTP Error 403"),
        (200, b"nonsense", "invalid signature"),
        (200, bytes(64), "signature"),
    ],
    ids=["500", "403", "nonsense", "zeros"],
)
def test_a_signing_url_that_answers_something_else_signs_nothing(
    status: int, answer: bytes, told: str, certificate: Certificate
) -> None:
    definition = {"claim_generator_info": [{"name": "x"}], "assertions": []}
    with faulty_service(status, answer) as url:
        credentials = manifests.Credentials(certificate.credentials.certificates, url=url)
        with pytest.raises(ManifestError, match=told):
            sign(PICTURE, "image/png", definition, [], credentials)
