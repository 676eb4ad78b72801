"""The commands that run servers or administer one: the embedded stack, or a process of the services in place of this one."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand

from editthinker.cli import target
from editthinker.cli.failures import FAILED, friendly, interruptible, say
from editthinker.client import AuthenticationError, EditThinker
from editthinker.environment import inherited
from editthinker.local import Stack, Timing, default_home, embedded_plan, isolated
from editthinker.local.collaborators import setting
from editthinker.local.redis_server import running_url
from editthinker.local.vllm_thinker import RULES, START_S

_REDIS_VARIABLE: Final = "EDITTHINKER_REDIS_URL"
_HINT: Final = """\
see: {studio}
try: curl {url}/v1/images/edits -F image=@photo.jpg -F prompt='make it feel like golden hour'
 or: editthinker edit photo.jpg 'make it feel like golden hour' -o out.png{server}"""


class HandOver(TyperCommand):
    """A command whose arguments, ``--help`` and ``--`` among them, are for the process that it becomes."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Leave every argument as it is."""
        ctx.args = list(args)
        return ctx.args


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 8080,
    data_dir: Annotated[Path | None, typer.Option(file_okay=False, help="Where sessions and pictures are stored.")] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="A further name of the editor, as gpt-image-1; may be repeated.")
    ] = None,
    thinker: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE[=MODEL]",
            help="Have vLLM serve this profile too, as the default thinker; MODEL is a folder or a hub id in place of its own.",
        ),
    ] = None,
    *,
    show: Annotated[bool, typer.Option("--open", help="Open the studio in the browser, once it is ready.")] = False,
) -> None:
    """Run the whole embedded stack on loopback, until Ctrl-C or SIGTERM.

    Prints its base URL on standard output once it is ready. EDITTHINKER_EDITORS, EDITTHINKER_THINKERS and
    EDITTHINKER_REGISTRY add editors and thinkers; the first of them is the default, unless --thinker names another.
    """
    with friendly(), interruptible():
        try:
            named: dict[str, Any] = {}
            if alias or thinker is not None:
                named["planner"] = partial(embedded_plan, aliases=alias or (), thinker=thinker)
            if thinker not in {None, RULES}:
                named["timing"] = Timing(start=START_S)
                say(f"vLLM may load its model for minutes; its log is {(data_dir or default_home()) / 'logs' / 'vllm.log'}")
            with Stack(data_dir, port, note=say, **named) as stack:
                stack.publish()
                studio = target.studio(stack.base_url)
                # The hint comes first: a reader of the URL may stop us at once.
                elsewhere = f" --server {stack.base_url}" if stack.data_dir != default_home() else ""
                say(_HINT.format(url=stack.base_url, studio=studio, server=elsewhere))
                for note in _notes(stack.base_url):
                    say(note)
                sys.stdout.write(f"{stack.base_url}\n")
                sys.stdout.flush()
                if show and not webbrowser.open(studio):
                    say(f"there is no browser to open {studio} in")
                stack.wait()
        except KeyboardInterrupt:
            say("stopped")


def _notes(url: str) -> Iterator[str]:
    """What a caller of the stack should know: whether it needs a key, and which editors and thinkers do not answer."""
    with EditThinker(url, "") as client:
        try:
            client.models.list()
        except AuthenticationError:
            yield "it needs a key: editthinker keys create --tenant me; give it as EDITTHINKER_API_KEY, or to curl as a bearer"
        checks: dict[str, bool] = (client.ready().model_extra or {}).get("checks", {})
    for check, ok in checks.items():
        role, colon, name = check.partition(":")
        if colon and not ok:
            yield f"{role} {name!r} is not ready; sessions that ask for it wait or fail until it answers"


def serve(context: typer.Context) -> None:
    """Run the orchestrator alone (see serve --help)."""
    _become("editthinker", "orchestrator", ["serve", *context.args])


def keys(context: typer.Context) -> None:
    """Create, list and revoke API keys (see keys --help), in the Redis of the running stack if no other is named."""
    _become("editthinker", "orchestrator", ["keys", *context.args], _redis())


def quota(context: typer.Context) -> None:
    """Set, list and remove tenants' quotas (see quota --help), in the Redis of the running stack if no other is named."""
    _become("editthinker", "orchestrator", ["quota", *context.args], _redis())


def training(context: typer.Context) -> None:
    """Allow, deny and list use for training (see training --help), in the Redis of the running stack if no other is named."""
    _become("editthinker", "orchestrator", ["training", *context.args], _redis())


def sweep(context: typer.Context) -> None:
    """Remove image folders that belong to no session (see sweep --help)."""
    _become("editthinker", "orchestrator", ["sweep", *context.args])


def service_app(name: str) -> typer.Typer:
    """``editthinker <name> serve``: run one service alone."""
    group = typer.Typer(name=name, help=f"Run the {name}.", no_args_is_help=True)

    # Typer would make a group of one command that command.
    @group.callback()
    def _group() -> None:
        pass

    @group.command("serve", cls=HandOver, help=f"Run the {name} alone (see {name} serve --help).")
    def _serve(context: typer.Context) -> None:
        _become(f"editthinker {name} serve", f"services.{name}", context.args)

    return group


def _redis() -> dict[str, str]:
    """The variable that names the Redis of the stack that runs on this user's data directory, unless one is set."""
    if setting(_REDIS_VARIABLE):
        return {}
    url = inherited().get("REDIS_URL")
    # A container's user may have no home.
    with suppress(RuntimeError):
        url = running_url(default_home() / "redis") or url
    return {_REDIS_VARIABLE: url} if url else {}


def _become(name: str, module: str, arguments: list[str], env: Mapping[str, str] | None = None) -> NoReturn:
    if os.name == "nt":
        say("editthinker: servers, and the commands that administer them, run on Linux and macOS only")
        raise typer.Exit(FAILED)
    command = isolated(name, module, *arguments)
    os.execve(command[0], command, {**inherited(), **(env or {})})  # noqa: S606 - this is what the command is for
