"""``python -m services.editor --pipeline classical``: serve an editor."""

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
"""The device's thread gives Python's lock up at every operator of torch; it must not wait the usual 5 ms to have it back from
a thread that answers callers.
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
        # Its logs go the way of all others; a line for each request comes from services.serving.middleware.
        log_config=None,
        access_log=False,
        # Longer than callers and proxies keep theirs, so that nobody reuses a connection that is being closed.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    server = uvicorn.Server(config)
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # it has stopped as it should, and says so once more
    except SystemExit as exc:
        # uvicorn's own status for it is 3. What is wrong is in its log, as a record; this is for people.
        failures.append(str(exc.__context__ or "its log says why"))
    if failures:
        sys.stderr.write(f"the editor cannot start: {failures[0]}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
