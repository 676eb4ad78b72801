"""A certificate chain to sign manifests with in development: a root of one's own, and a signer's certificate under it.

What C2PA 2.2, section 14.5.1 asks of a signer's certificate: version 3, no CA, digital signatures, a purpose of the trust list,
the key identifiers. Nobody trusts such a chain who was not given its root.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS: Final = 365
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
