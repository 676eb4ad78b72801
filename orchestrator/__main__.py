"""``python -m orchestrator``: serve the API and drive sessions."""

from __future__ import annotations

import argparse
import logging
import sys

import uvicorn
from pydantic import ValidationError

from orchestrator.app import create_app
from orchestrator.settings import Settings


def main() -> int:
    """Read settings (options over environment over defaults) and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="editthinker serve", description="Serve the orchestrator.")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"])
            sys.stderr.write(f"EDITTHINKER_{where.upper()}: {error['msg']}\n")
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        # Streams and waiting callers would hold a shutdown; their sessions go on elsewhere.
        timeout_graceful_shutdown=3,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
