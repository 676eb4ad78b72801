"""C2PA manifests: what one says, what is kept of an upload's, and signing one. Needs c2pa-python (``editthinker[c2pa]``).

The native library reads strangers' bytes here, so it runs in `services.imaging.decode_worker` only. It never uses the network: no
remote manifests, no revocation checks. Signing by a URL is the one exception, which the operator configures.

C2PA 2.2: section 10 (claims), 15 (validation), 18.13 (actions).
"""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.imaging.marks import EDITED_BY_MODEL, SYNTHETIC

MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes of a manifest store that is read, and of what is kept of it. Those with thumbnails have some hundred kilobytes."""
MAX_TEXT: Final = 200
_MAX_ITEMS: Final = 20
SOURCE: Final = "source"
"""The label of the ingredient that was opened: the caller's upload."""
ANSWER: Final = "answer"
"""The label of the ingredient that an editor answered with manifests of its own."""
_RELATIONSHIPS: Final = {SOURCE: "parentOf", ANSWER: "componentOf"}
_SETTINGS: Final[Mapping[str, Any]] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_UNTRUSTED: Final = "signingCredential.untrusted"
_CHANGED: Final = (".mismatch", ".missing")
"""Endings of failure codes."""
_URL_S: Final = 10.0
_MAX_SIGNATURE: Final = 64 * 1024


class ManifestError(Exception):
    """A manifest that cannot be read or made; the message is a clause."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs: files of PEM texts, or a URL that signs.

    Attributes:
        certificates: path of the chain, the signer's first.
        key: path of the private key; empty with a URL.
        url: is posted the bytes to sign as ``application/octet-stream`` and answers the signature: for ECDSA the two numbers of
            P1363, as C2PA has them.
        token: sent to it as a bearer token; a path of a file.
        algorithm: es256, es384, es512, ps256, ps384, ps512 or ed25519.
        timestamps: URL of an RFC 3161 authority; empty asks none.
    """

    certificates: str
    key: str = ""
    url: str = ""
    token: str = ""
    algorithm: str = "es256"
    timestamps: str = ""


def supported() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("c2pa") is not None


def changed(reasons: Sequence[str]) -> list[str]:
    """Those of a manifest's failures that show that the file or the manifest was changed after it was signed, as sentences."""
    found = [reason for reason in reasons if reason.endswith(_CHANGED)]
    return [f"the picture or its manifest was changed after it was signed ({reason})" for reason in found]


def summary(data: bytes, media_type: str, anchors: str = "") -> dict[str, Any]:
    """What the active manifest of a file says, bounded: JSON.

    Args:
        anchors: PEM certificates that are trusted.

    Raises:
        ManifestError: when it cannot be read at all.
    """
    import c2pa  # noqa: PLC0415 - an extra

    try:
        with _context(anchors) as context, c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
            state = str(reader.get_validation_state() or "Invalid").lower()
            store = json.loads(reader.json())
    except c2pa.C2paError as exc:
        raise ManifestError(_text(str(exc))) from exc
    manifest = _object(_object(store.get("manifests")).get(str(store.get("active_manifest"))))
    signature = _object(manifest.get("signature_info"))
    types = _types(manifest)
    return {
        "state": state,
        "reasons": _failures(_object(_object(store.get("validation_results")).get("activeManifest"))),
        "generator": _generator(manifest),
        "signed_by": _maybe(signature.get("issuer")),
        "signed_at": _maybe(signature.get("time")),
        "actions": _actions(manifest),
        "ingredients": _ingredients(manifest, _object(store.get("manifests"))),
        "digital_source_type": _synthetic(store) or (types[-1] if types else None),
    }


def ingredient(data: bytes, media_type: str, label: str = SOURCE) -> bytes:
    """An archive of a file as an ingredient: its manifests, and whether they are valid, without its pixels.

    Args:
        label: `SOURCE` or `ANSWER`.

    Raises:
        ManifestError: when the file cannot be read, or its manifests are too large.
    """
    import c2pa  # noqa: PLC0415 - an extra

    made = io.BytesIO()
    try:
        with _context() as context, c2pa.Builder({"claim_generator_info": [{"name": "intake"}]}, context=context) as builder:
            described = {"title": label, "relationship": _RELATIONSHIPS[label], "label": label}
            builder.add_ingredient(described, media_type, io.BytesIO(data))
            builder.write_ingredient_archive(label, made)
    except c2pa.C2paError as exc:
        raise ManifestError(_text(str(exc))) from exc
    if made.tell() > MAX_MANIFEST:
        raise ManifestError(f"its manifests have more than {MAX_MANIFEST:,} bytes")
    return made.getvalue()


def sign(
    data: bytes, media_type: str, definition: Mapping[str, Any], archives: Sequence[bytes], credentials: Credentials
) -> bytes:
    """The file with a signed manifest.

    Args:
        data: the picture as it is served.
        media_type: its own.
        definition: of the manifest; its actions name ingredients by their labels.
        archives: of those ingredients that have manifests, by `ingredient`.
        credentials: who signs.

    Raises:
        ManifestError: when it cannot be signed.
    """
    import c2pa  # noqa: PLC0415 - an extra

    made, faults = io.BytesIO(), list[str]()
    try:
        with (
            _context() as context,
            _signer(credentials, faults) as signer,
            c2pa.Builder(dict(definition), context=context) as builder,
        ):
            for archive in archives:
                builder.add_ingredient_from_archive(io.BytesIO(archive))
            builder.sign(signer, media_type, io.BytesIO(data), made)
    except (c2pa.C2paError, OSError, ValueError) as exc:
        # Of what failed in a call back from it the library knows nothing.
        raise ManifestError(_text(faults[0] if faults else str(exc))) from exc
    return made.getvalue()


def _context(anchors: str = "") -> Any:
    import c2pa  # noqa: PLC0415 - an extra

    return c2pa.Context.from_dict({**_SETTINGS, **({"trust": {"trust_anchors": anchors}} if anchors else {})})


def _signer(credentials: Credentials, faults: list[str]) -> Any:
    """The library's signer; what fails at the URL is added to `faults`."""
    import c2pa  # noqa: PLC0415 - an extra

    certificates = Path(credentials.certificates).read_bytes()
    stamps = credentials.timestamps or None
    if not credentials.url:
        key = Path(credentials.key).read_bytes()
        info = c2pa.C2paSignerInfo(credentials.algorithm.encode(), certificates, key, stamps.encode() if stamps else None)
        return c2pa.Signer.from_info(info)
    token = Path(credentials.token).read_text("utf-8").strip() if credentials.token else ""

    def ask(payload: bytes) -> bytes:
        headers = {"content-type": "application/octet-stream", **({"authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(credentials.url, payload, headers)  # noqa: S310 - the operator's, checked to be http
        try:
            with urllib.request.urlopen(request, timeout=_URL_S) as reply:  # noqa: S310
                signature: bytes = reply.read(_MAX_SIGNATURE)
        except (OSError, http.client.HTTPException) as exc:
            faults.append(f"the signing URL gave no signature: {exc}")
            raise
        return signature

    algorithm = c2pa.C2paSigningAlg[credentials.algorithm.upper()]
    return c2pa.Signer.from_callback(ask, algorithm, certificates.decode(), stamps)


def _types(manifest: Mapping[str, Any]) -> list[str]:
    """The Digital Source Types of its actions."""
    return [action["digital_source_type"] for action in _actions(manifest) if action["digital_source_type"]]


def _synthetic(store: Mapping[str, Any]) -> str | None:
    """The type of `SYNTHETIC` that a manifest store makes true of its file; None if no manifest tells one.

    What a parent was made by, its child was. Of a picture with another synthetic ingredient only a part was.
    """
    manifests = _object(store.get("manifests"))
    types, lineage = list[str](), set[str]()
    label = str(store.get("active_manifest"))
    while label in manifests and label not in lineage:
        lineage.add(label)
        manifest = _object(manifests[label])
        types += _types(manifest)
        parents = [each for each in _objects(manifest.get("ingredients")) if each.get("relationship") == "parentOf"]
        label = str(parents[0].get("active_manifest")) if parents else ""
    others = [_types(_object(each)) for name, each in manifests.items() if name not in lineage]
    if any(set(SYNTHETIC).intersection(each) for each in others):
        types.append(EDITED_BY_MODEL)
    return next((each for each in SYNTHETIC if each in types), None)


def _actions(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for assertion in _objects(manifest.get("assertions")):
        if str(assertion.get("label")).startswith("c2pa.actions"):
            for action in _objects(_object(assertion.get("data")).get("actions")):
                agent = action.get("softwareAgent")
                name = agent.get("name") if isinstance(agent, dict) else agent
                kind = action.get("digitalSourceType")
                found.append(
                    {"action": _text(action.get("action")), "software": _maybe(name), "digital_source_type": _maybe(kind)}
                )
    return found[:_MAX_ITEMS]


def _ingredients(manifest: Mapping[str, Any], manifests: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for each in _objects(manifest.get("ingredients")):
        own = _object(manifests.get(str(each.get("active_manifest"))))
        reasons = _failures(_object(_object(each.get("validation_results")).get("activeManifest")))
        told = None if not own and not reasons else "valid" if set(reasons) <= {_UNTRUSTED} else "invalid"
        found.append(
            {
                "title": _maybe(each.get("title")),
                "relationship": _maybe(each.get("relationship")),
                "generator": _generator(own) if own else None,
                "state": told,
                "reasons": reasons,
                "actions": _actions(own),
            }
        )
    return found


def _failures(results: Mapping[str, Any]) -> list[str]:
    """The codes of what does not validate (C2PA 2.2, section 15.2.2)."""
    codes = [_text(each.get("code")) for each in _objects(results.get("failure"))]
    return list(dict.fromkeys(codes))[:_MAX_ITEMS]


def _generator(manifest: Mapping[str, Any]) -> str | None:
    info = _objects(manifest.get("claim_generator_info"))
    if not info:
        return _maybe(manifest.get("claim_generator"))
    return _maybe(" ".join(str(info[0][name]) for name in ("name", "version") if info[0].get(name)))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Sequence[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)][:_MAX_ITEMS] if isinstance(value, list) else []


def _maybe(value: object) -> str | None:
    return None if value is None else _text(value)


def _text(value: object) -> str:
    """A text of a stranger's manifest on one line, bounded."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))[:MAX_TEXT].strip()
