"""``editthinker provenance FILE``: what a picture says of its origin; ``editthinker certificate FOLDER``: one to sign with."""

from __future__ import annotations

import datetime as dt
import json as json_module
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from editthinker.cli import target
from editthinker.cli.edit import read_picture
from editthinker.cli.failures import UsageError, friendly
from editthinker.client.pictures import sniff
from editthinker.printable import json_text, one_line

_FILES: Final = ("chain.pem", "key.pem", "root.pem")


def provenance(
    photo: Annotated[Path, typer.Argument(metavar="FILE", help="A picture, PNG, JPEG or WebP (- reads one from stdin).")],
    *,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Tell what marks a picture carries, and with --server whether that server made it for you.

    Without a server the marks are read here; C2PA manifests need editthinker[c2pa].
    """
    with friendly():
        data = read_picture(photo)
        if server:
            with target.connect(server, api_key) as client:
                told = client.provenance(data).model_dump(mode="json")
        else:
            told = read_here(data)
        lines = [json_text(json_module.dumps(told, indent=2, ensure_ascii=False))] if json else in_words(told)
        sys.stdout.write("\n".join(lines) + "\n")


def read_here(data: bytes) -> dict[str, Any]:
    """The marks of a picture, without a server: in the shape of ``POST /v1/provenance``."""
    # Not for the other commands, which need none of it.
    from services.imaging import manifests, marks  # noqa: PLC0415

    found = marks.read(data)
    manifest: dict[str, Any] | None = None
    if found.c2pa and not manifests.supported():
        manifest = {"state": "unread", "reasons": ["install editthinker[c2pa] to read it"]}
    elif found.c2pa:
        try:
            manifest = manifests.summary(data, sniff(data) or "")
        except manifests.ManifestError as exc:
            manifest = {"state": "invalid", "reasons": [str(exc)]}
    types = {found.source_type, (manifest or {}).get("digital_source_type")}
    return {
        "object": "provenance",
        "says_ai": bool(types & set(marks.SYNTHETIC)),
        "iptc": {"digital_source_type": found.source_type, "error": found.broken} if found.xmp else None,
        "c2pa": manifest,
        "tampered": manifests.changed((manifest or {}).get("reasons", [])),
        "made_here": None,
    }


def in_words(told: dict[str, Any]) -> list[str]:
    """The answer as lines for a person. Its texts may be a stranger's."""
    iptc, c2pa = told["iptc"], told["c2pa"]
    lines = ["a mark says that AI made or edited it" if told["says_ai"] else "no mark says that AI made or edited it"]
    if iptc is None:
        lines.append("IPTC: none")
    else:
        lines.append(f"IPTC: {iptc['digital_source_type'] or 'no Digital Source Type'}")
        lines += [f"  not read: {iptc['error']}"] if iptc["error"] else []
    lines += ["C2PA: none"] if c2pa is None else _manifest(c2pa)
    lines += [f"tampered with: {each}" for each in told["tampered"]]
    if told["made_here"] is not None:
        lines.append(f"made by this server: {told['made_here']}")
    return [line[: len(line) - len(line.lstrip(" "))] + one_line(line) for line in lines]


def _manifest(told: dict[str, Any]) -> list[str]:
    lines = [f"C2PA: {told['state']}" + (f", signed by {told['signed_by']}" if told.get("signed_by") else "")]
    lines += [f"  {reason}" for reason in told["reasons"]]
    lines += [f"  made with {told['generator']}"] if told.get("generator") else []
    for action in told.get("actions", []):
        lines.append(f"  {action['action']}" + (f" by {action['software']}" if action["software"] else ""))
    for each in told.get("ingredients", []):
        state = f", manifest {each['state']}" if each["state"] else ""
        lines.append(
            f"  of {each['title'] or 'a picture'}{state}" + (f", made with {each['generator']}" if each["generator"] else "")
        )
        lines += [f"    {reason}" for reason in each["reasons"]]
    return lines


def certificate(
    folder: Annotated[Path, typer.Argument(help="Where chain.pem, key.pem and root.pem are written.")],
    *,
    organization: Annotated[str, typer.Option(help="Who signs.")] = "EditThinker development",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
) -> None:
    """Write a certificate to sign pictures with in development. Nobody trusts it who was not given root.pem."""
    with friendly():
        try:
            from services.imaging import certificates  # noqa: PLC0415 - an extra
        except ImportError as exc:
            message = "install editthinker[c2pa], which makes certificates"
            raise UsageError(message) from exc
        if not 1 <= len(organization) <= 40 or not organization.isprintable():  # noqa: PLR2004 - X.520's 64, with a suffix
            message = "--organization: 1 to 40 printable characters"
            raise UsageError(message)
        target.folder_for(folder)
        if existing := [name for name in _FILES if (folder / name).exists()]:
            message = f"{folder / existing[0]} exists; name another folder, or remove it first"
            raise UsageError(message)
        chain = certificates.make(organization, dt.datetime.now(dt.UTC), days)
        for name, text in zip(_FILES, (chain.certificates, chain.key, chain.root), strict=True):
            # The key is for its owner's eyes from the first moment.
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
        path = folder.absolute()
        sys.stdout.write(
            f"EDITTHINKER_C2PA_CERTIFICATE={path / 'chain.pem'}\nEDITTHINKER_C2PA_KEY={path / 'key.pem'}\n"
            f"EDITTHINKER_C2PA_TRUST={path / 'root.pem'}\n"
        )
