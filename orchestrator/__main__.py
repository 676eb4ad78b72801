"""``python -m orchestrator [serve | keys | quota | training | sweep]``: serve the API and drive sessions, or administer a server.

Without a command it serves.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
from types import FrameType
from typing import Annotated

import typer
import uvicorn

from orchestrator.admin import keys, quotas, training
from orchestrator.admin.configuration import server_settings
from orchestrator.admin.sweep import sweep
from orchestrator.api.shutdown import Shutdown
from orchestrator.app import create_app
from services.serving import logs, tracing
from services.serving.command_line import PLAIN, run_server
from services.serving.http_protocol import server_config
from services.serving.origins import is_loopback


class _Server(uvicorn.Server):
    """Drains before it stops listening and closes connections; a second signal ends that."""

    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT."""
        if self.should_exit:
            self._shutdown.close_at_once()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then end."""
        await self._shutdown.drain()
        await super().shutdown(sockets)


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serve the API and drive sessions.

    Everything else is set in the environment: EDITTHINKER_REDIS_URL, EDITTHINKER_EDITORS … (docs/operations.md).
    """
    # Pictures are readable by this user alone.
    os.umask(0o077)
    settings = server_settings(host=host, port=port)
    logs.configure(settings.log_level, settings.log_format, service="orchestrator", secrets=settings.secrets(), ids=tracing.ids)
    tracing.configure("editthinker-orchestrator", settings.otlp_endpoint)
    if not settings.keys_required and not is_loopback(settings.host):
        logging.getLogger(__name__).warning("no API keys are needed on %s: everybody who reaches it may come in", settings.host)
    # Each waiting edit and each caller holds a connection; the soft limit of most systems is too low.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    application = create_app(settings)
    config = server_config(
        application,
        host=settings.host,
        port=settings.port,
        # After draining: for the last answers. Readers of streams would hold a shutdown.
        timeout_graceful_shutdown=3,
    )
    run_server("orchestrator", _Server(config, application.state.shutdown).run)


app = typer.Typer(help="Serve the API and drive sessions, or administer a server. Without a command it serves.", **PLAIN)
app.command("serve")(serve)
app.add_typer(keys.app)
app.add_typer(quotas.app)
app.add_typer(training.app)
app.command("sweep")(sweep)


def main() -> None:
    """Run the command line."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "--help"):
        arguments = ["serve", *arguments]
    app(arguments)


if __name__ == "__main__":
    main()
