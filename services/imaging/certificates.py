"""Certificate chains that sign manifests: whether an operator's can, and one for development.

What C2PA 2.2, section 14.5.1 asks of a signer's certificate: version 3, no CA, digital signatures, a purpose of the trust list,
the key identifiers. The chain for development has a root of its own: nobody trusts it who was not given that root.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS: Final = 365
_CURVES: Final = {"es256": "secp256r1", "es384": "secp384r1", "es512": "secp521r1"}
_USAGES: Final = (
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class Chain:
    """PEM texts.

    Attributes:
        certificates: the signer's and then the root's, as a signer sends them.
        key: the signer's private key, PKCS #8, not encrypted.
        root: the root alone, for those who are to trust it. Its key is not kept.
    """

    certificates: bytes
    key: bytes
    root: bytes


def make(organization: str, now: dt.datetime, days: int = DAYS) -> Chain:
    """A new chain on P-256, for ES256.

    Args:
        organization: who signs.
        now: when it begins to be valid, less five minutes for clocks that differ.
    """
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    begins, ends = now - dt.timedelta(minutes=5), now + dt.timedelta(days=days)
    root_name, name = _name(organization, "development root"), _name(organization, "development signer")
    root = _builder(root_name, root_name, root_key.public_key(), begins, ends)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(_usage(signs_certificates=True), critical=True)
    signed_root = root.sign(root_key, hashes.SHA256())
    signer = _builder(name, root_name, key.public_key(), begins, ends)
    signer = signer.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    signer = signer.add_extension(_usage(signs_certificates=False), critical=True)
    signer = signer.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    signer = signer.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
    pem = serialization.Encoding.PEM
    root_pem = signed_root.public_bytes(pem)
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Chain(signer.sign(root_key, hashes.SHA256()).public_bytes(pem) + root_pem, private, root_pem)


def load(pem: bytes, name: str) -> list[x509.Certificate]:
    """The certificates of a PEM text.

    Args:
        name: what the message calls it.

    Raises:
        ValueError: when it has none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise ValueError(f"{name}: the file has no certificate in PEM that can be read") from exc


def check(chain: Sequence[x509.Certificate], key: bytes | None, algorithm: str, now: dt.datetime | None) -> None:
    """Check that a chain can sign manifests, as far as that shows without signing.

    Args:
        chain: the signer's first.
        key: PEM text of its private key; None where a service has it.
        algorithm: as in `services.imaging.manifests.Credentials`.
        now: when it must be valid; None asks for no time.

    Raises:
        ValueError: when it cannot; the message begins with the setting that is wrong.
    """
    signer, public = chain[0], chain[0].public_key()
    if signer.issuer == signer.subject:
        raise ValueError("c2pa_certificate: its first certificate signed itself; put the signer's first, its authority's next")
    if now is not None and now >= signer.not_valid_after_utc:
        raise ValueError(f"c2pa_certificate: it expired on {signer.not_valid_after_utc:%Y-%m-%d}; renew it")
    if now is not None and now < signer.not_valid_before_utc:
        raise ValueError(f"c2pa_certificate: it is not valid before {signer.not_valid_before_utc:%Y-%m-%d}")
    if not _signs(public, algorithm):
        raise ValueError(f"c2pa_algorithm: the certificate's key cannot sign with {algorithm}; name the one that it is for")
    if key is not None and _spki(_public_half(key)) != _spki(public):
        raise ValueError("c2pa_key: it is not the key of c2pa_certificate; name the two that belong together")


def _public_half(key: bytes) -> CertificatePublicKeyTypes:
    """That of a private key."""
    try:
        loaded = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ValueError("c2pa_key: the file has no private key in PEM that can be read without a password") from exc
    return loaded.public_key()  # type: ignore[return-value]  # one that no certificate has differs from each


def _spki(public: CertificatePublicKeyTypes) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _signs(public: CertificatePublicKeyTypes, algorithm: str) -> bool:
    if isinstance(public, ec.EllipticCurvePublicKey):
        return _CURVES.get(algorithm) == public.curve.name
    if isinstance(public, rsa.RSAPublicKey):
        return algorithm.startswith("ps")
    return isinstance(public, ed25519.Ed25519PublicKey) and algorithm == "ed25519"


def _name(organization: str, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{organization} {unit}"[:64]),
        ]
    )


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: dt.datetime, ends: dt.datetime
) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder(issuer, name, key, x509.random_serial_number(), begins, ends)
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    others = dict.fromkeys(_USAGES, False)
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates, **others
    )
