"""The commands that run servers: the whole embedded stack, or one service in place of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from editthinker.cli.failures import friendly, interruptible, say
from editthinker.local import Stack

AS_GIVEN: Final[dict[str, Any]] = {
    # The service has its own options, --help among them.
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    "add_help_option": False,
}
_HINT: Final = """\
try: curl {url}/v1/images/edits -F image=@photo.jpg -F prompt='make it feel like golden hour'
 or: editthinker edit photo.jpg 'make it feel like golden hour' -o out.png --server {url}"""


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 8080,
    data_dir: Annotated[Path | None, typer.Option(file_okay=False, help="Where sessions and pictures are kept.")] = None,
) -> None:
    """Run the whole embedded stack on loopback, until Ctrl-C or SIGTERM.

    Prints its base URL on standard output once it is ready.
    """
    with friendly(), interruptible():
        try:
            with Stack(data_dir, port, note=say) as stack:
                # The hint first: whoever reads the URL may stop us at once.
                say(_HINT.format(url=stack.base_url))
                sys.stdout.write(f"{stack.base_url}\n")
                sys.stdout.flush()
                stack.wait()
        except KeyboardInterrupt:
            say("stopped")


def serve(context: typer.Context) -> None:
    """Run the orchestrator alone; its options follow as they are (see serve --help)."""
    _become("orchestrator", context.args)


def service_app(name: str) -> typer.Typer:
    """``editthinker <name> serve``: run one service alone."""
    group = typer.Typer(name=name, help=f"Run the {name}.", no_args_is_help=True)

    # A group of one command would otherwise be that command.
    @group.callback()
    def _group() -> None:
        pass

    @group.command("serve", help=f"Run the {name} alone; its options follow as they are.", **AS_GIVEN)
    def _serve(context: typer.Context) -> None:
        _become(f"services.{name}", context.args)

    return group


def _become(module: str, arguments: list[str]) -> NoReturn:
    # -P: a folder of the module's name where the user happens to stand must not be imported in its place.
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - this is what the command is for
