"""``python -m services.thinker --profile NAME``: serve chat completions that critique edits.

``rules`` is served by this process. For every other profile this process becomes vLLM (exec), so that no wrapper stands
between callers and vLLM. Neither is imported before the profile is known.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS
from services.serving.command_line import PLAIN, USAGE, fail, read_settings, run_server, say
from services.thinker.profiles import EMBEDDED, Overrides, Profile, ProfileError, arguments, load
from services.thinker.settings import PREFIX, Settings
from services.thinker.vllm import VllmNotFoundError, executable, shown, warnings_about

_CONSTRAINTS: Final[tuple[Constraint, ...]] = ("regex", "json_schema")


app = typer.Typer(**PLAIN)


# What is not one of the options below is vLLM's, with and without a ``--`` before it.
@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    *,
    profile: Annotated[str | None, typer.Option(help=f"{EMBEDDED} (default), {', '.join(load())}, or your own.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (8200).")] = None,
    model: Annotated[
        str | None, typer.Option(help="vLLM: a folder or a hub id; rules: the name that requests must give.")
    ] = None,
    served_name: Annotated[str | None, typer.Option(help="vLLM: the name that requests must give.")] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print vLLM's command instead of running it.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the profile, and the setting for the orchestrator.")] = False,
) -> None:
    """Serve a thinker. Arguments after -- are passed to vLLM.

    Everything else is set in the environment: EDITTHINKER_THINKER_… (docs/thinker.md).
    """
    options = {"profile": profile, "host": host, "port": port, "model": model, "served_name": served_name}
    settings = read_settings(Settings, PREFIX, **options)
    try:
        profiles = load(settings.profiles)
    except ProfileError as exc:
        raise fail(f"{PREFIX}PROFILES: {exc}", USAGE) from None
    if settings.profile in profiles:
        _vllm(settings, profiles[settings.profile], context.args, show=show, only_print=only_print)
    elif settings.profile == EMBEDDED and show:
        _show(settings, {"profile": EMBEDDED}, {"model": settings.model or EMBEDDED, "format": "editthinker"})
    elif settings.profile != EMBEDDED or only_print:
        others = "" if only_print else f", nor {EMBEDDED}"
        raise fail(f"{PREFIX}PROFILE: {settings.profile!r} is none of the vLLM profiles {sorted(profiles)}{others}", USAGE)
    elif context.args:
        raise fail(f"unknown arguments: {shlex.join(context.args)}", USAGE)
    else:
        _rules(settings)


def _rules(settings: Settings) -> None:
    # A critique is one thread's work on small arrays: BLAS's own threads would wait for each other on a busy machine, and took
    # more than half of its processor seconds (.90 instead of .41 on two cores, 2026-11-30). Read when numpy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported here because a vLLM profile starts without numpy and OpenCV, and this one without vLLM.
    import uvicorn  # noqa: PLC0415

    from services.embedded.thinker.app import Limits, create_app  # noqa: PLC0415
    from services.imaging.codec import ImageLimits  # noqa: PLC0415
    from services.serving import logs, tracing  # noqa: PLC0415
    from services.serving.http_protocol import server_config  # noqa: PLC0415
    from services.serving.origins import OriginPolicy  # noqa: PLC0415

    key = settings.api_key.get_secret_value() if settings.api_key else None
    logs.configure(settings.log_level, settings.log_format, service="thinker", secrets=[key], ids=tracing.ids)
    tracing.configure("editthinker-thinker", settings.otlp_endpoint)
    limits = Limits(
        model=settings.model or EMBEDDED,
        workers=settings.workers,
        queue=settings.queue,
        images=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        api_key=key,
        upload_bytes=settings.upload_bytes,
    )
    try:
        origins = OriginPolicy.of(settings.host, keyless=key is None, setting=PREFIX, hosts=settings.allowed_hosts)
    except ValueError as exc:
        raise fail(f"{PREFIX}ALLOWED_HOSTS: {exc}", USAGE) from None
    config = server_config(
        create_app(limits, origins),
        host=settings.host,
        port=settings.port,
        # The longest critique takes a fraction of a second.
        timeout_graceful_shutdown=5,
    )
    run_server("thinker", uvicorn.Server(config).run)


def _vllm(settings: Settings, profile: Profile, extra: Sequence[str], *, show: bool, only_print: bool) -> None:
    """Become vLLM, or print what that would be."""
    if show:
        name = settings.served_name or profile.served_name
        constraint = next((kind for kind in _CONSTRAINTS if FORMATS[profile.format].bind().constraint(kind)), "none")
        entry = {"model": name, "format": profile.format, "constraint": constraint}
        _show(settings, asdict(profile), entry | ({"template": profile.template} if profile.template else {}))
        return
    overrides = Overrides(
        host=settings.host,
        port=settings.port,
        model=settings.model,
        served_name=settings.served_name,
        revision=settings.revision,
        extra=tuple(extra),
    )
    words = arguments(profile, overrides)
    try:
        command = [executable(settings.vllm), *words]
    except VllmNotFoundError as exc:
        if not only_print:
            raise fail(str(exc), USAGE) from None
        command = [settings.vllm or "vllm", *words]
    for warning in warnings_about(words):
        say(f"warning: {warning}")
    if only_print:
        sys.stdout.write(shown(command) + "\n")
        return
    say(shown(command))
    sys.stderr.flush()
    if settings.api_key:
        # Not as an option, which every user of the machine can read.
        os.environ["VLLM_API_KEY"] = settings.api_key.get_secret_value()
    os.execvp(command[0], command)  # noqa: S606 - this is what the command is for


def _show(settings: Settings, profile: Mapping[str, object], entry: Mapping[str, str]) -> None:
    """The profile as JSON, then a line for the orchestrator's environment."""
    sys.stdout.write(json.dumps(profile, indent=1, ensure_ascii=False) + "\n")
    thinkers = {entry["model"]: {"url": f"http://{settings.host}:{settings.port}/v1", **entry}}
    sys.stdout.write(f"EDITTHINKER_THINKERS={shlex.quote(json.dumps(thinkers))}\n")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
