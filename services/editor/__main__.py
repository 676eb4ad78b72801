"""``python -m services.editor --pipeline classical``: run an editor worker."""

from __future__ import annotations

import argparse
import sys

import uvicorn
from pydantic import ValidationError

from services.editor.app import create_app
from services.editor.pipelines import NAMES
from services.editor.settings import PREFIX, Settings
from services.serving import logs, tracing

_SWITCH_S = 0.0005
"""The switch interval of the GIL. The executor's thread releases the GIL at every torch operator; at the default of 5 ms it would
wait that long for it while another thread answers callers.
"""


def main() -> int:
    """Read settings (options over environment over defaults) and serve until SIGTERM, then let running edits finish."""
    parser = argparse.ArgumentParser(prog="python -m services.editor", description="Serve an editor.")
    parser.add_argument("--pipeline", choices=NAMES, help="the family; auto reads it from the model")
    parser.add_argument("--model", help="a local folder or a hub id")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.epilog = f"Everything else is set in the environment: {PREFIX}MAX_BATCH, {PREFIX}DTYPE … (docs/editors.md)."
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"]).upper().removeprefix(PREFIX)
            sys.stderr.write(f"{PREFIX}{where or '*'}: {error['msg'].removeprefix('Value error, ')}\n")
        return 2
    return _serve(settings)


def _serve(settings: Settings) -> int:
    sys.setswitchinterval(_SWITCH_S)
    secrets = [settings.api_key.get_secret_value()] if settings.api_key else []
    logs.configure(settings.log_level, settings.log_format, service="editor", secrets=secrets, ids=tracing.ids)
    tracing.configure("editthinker-editor", settings.otlp_endpoint)
    failures: list[str] = []

    def stop(cause: str) -> None:
        failures.append(cause)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, on_failure=stop),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        # Logs go through services.serving.logs; services.serving.middleware logs each request.
        log_config=None,
        access_log=False,
        # Longer than the idle timeouts of callers and proxies, so that they do not reuse a connection that is being closed.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    server = uvicorn.Server(config)
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # uvicorn re-raises the signal after a graceful stop
    except SystemExit as exc:
        # uvicorn exits with 3 and has logged the cause as a record; this message is for people.
        failures.append(str(exc.__context__ or "its log says why"))
    if failures:
        sys.stderr.write(f"the editor cannot start: {failures[0]}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
