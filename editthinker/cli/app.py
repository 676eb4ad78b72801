"""The commands, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from editthinker.cli import edit, evaluating, export, processes, provenance, sessions

app = typer.Typer(
    name="editthinker",
    help="Edit pictures with a thinker that critiques every edit; run the servers; look after sessions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("edit")(edit.edit)
app.command("provenance")(provenance.provenance)
app.command("certificate")(provenance.certificate)
app.command("up")(processes.up)
app.command("serve", cls=processes.HandOver)(processes.serve)
app.add_typer(processes.service_app("editor"))
app.add_typer(processes.service_app("thinker"))
app.add_typer(sessions.app)
app.command("export")(export.export)
app.add_typer(evaluating.app)
app.command("keys", cls=processes.HandOver)(processes.keys)
app.command("quota", cls=processes.HandOver)(processes.quota)
app.command("training", cls=processes.HandOver)(processes.training)
app.command("sweep", cls=processes.HandOver)(processes.sweep)


def _version(wanted: bool) -> None:  # noqa: FBT001 - the signature that Typer calls
    if wanted:
        typer.echo(f"editthinker {version('editthinker')}")
        raise typer.Exit


@app.callback()
def _main(
    *, _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False
) -> None:
    pass
