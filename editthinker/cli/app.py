"""The commands, put together."""

from __future__ import annotations

import typer

from editthinker.cli import edit, processes, sessions

app = typer.Typer(
    name="editthinker",
    help="Any image editor, made deliberate: edit pictures, run the stack, look after sessions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("edit")(edit.edit)
app.command("up")(processes.up)
app.command("serve", **processes.AS_GIVEN)(processes.serve)
app.add_typer(processes.service_app("editor"))
app.add_typer(processes.service_app("thinker"))
app.add_typer(sessions.app)
