"""``python -m services.editor --pipeline classical``: serve an editor."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, NoReturn

import typer
import uvicorn

from services.editor.app import create_app
from services.editor.pipelines import NAMES, follow
from services.editor.settings import PREFIX, Settings
from services.serving import logs, tracing
from services.serving.command_line import PLAIN, fail, read_settings, run_server
from services.serving.http_protocol import server_config

_SWITCH_S = 0.0005
"""The switch interval of the GIL. The executor's thread releases the GIL at every torch operator; at the default of 5 ms it would
wait that long for it while another thread answers callers.
"""


app = typer.Typer(**PLAIN)


def _pipeline(text: str) -> str:
    if text not in NAMES:
        raise typer.BadParameter(f"{text!r}: write one of {', '.join(NAMES)}")
    return text


@app.command()
def serve(
    *,
    pipeline: Annotated[
        str | None,
        typer.Option(parser=_pipeline, metavar="NAME", help=f"One of {', '.join(NAMES)}; auto reads it from the model."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A local folder or a hub id.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serve an editor until SIGTERM; running edits are finished then. If the device fails, it ends with status 1.

    Everything else is set in the environment: EDITTHINKER_EDITOR_MAX_BATCH, EDITTHINKER_EDITOR_DTYPE … (docs/editors.md).
    """
    settings = read_settings(Settings, PREFIX, pipeline=pipeline, model=model, host=host, port=port)
    sys.setswitchinterval(_SWITCH_S)
    secrets = [settings.api_key.get_secret_value()] if settings.api_key else []
    logs.configure(settings.log_level, settings.log_format, service="editor", secrets=secrets, ids=tracing.ids)
    tracing.configure("editthinker-editor", settings.otlp_endpoint)
    if settings.parallel is not None and int(os.environ.get("RANK", "0")) > 0:
        _follow(settings)
    if settings.parallel is None and "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
        raise fail("torchrun started several editors; set EDITTHINKER_EDITOR_PARALLEL=ulysses to make one of them")
    failures: list[str] = []

    def stop(cause: str) -> None:
        failures.append(cause)
        server.should_exit = True

    config = server_config(
        create_app(settings, on_failure=stop),
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    server = uvicorn.Server(config)
    run_server("editor", server.run)
    if failures:
        raise fail(f"the editor {failures[0]}")


def _follow(settings: Settings) -> NoReturn:
    """Take part in the passes of the process that serves."""
    assert settings.model is not None
    try:
        follow(settings.pipeline, settings.model, settings.tuning())
    # The edge of the process.
    except Exception as exc:
        logging.getLogger(__name__).critical("this process cannot follow rank 0", exc_info=exc)
        raise fail(f"the editor's rank {os.environ['RANK']} failed: {type(exc).__name__}: {exc}") from None
    raise AssertionError("it follows until the process ends")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
