"""``python -m services.thinker --profile rules``: serve chat completions that critique edits."""

from __future__ import annotations

import argparse
import logging
import sys

from pydantic import ValidationError

from services.thinker.profiles import PROFILES
from services.thinker.settings import Settings


def main() -> int:
    """Read settings (options over environment over defaults) and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m services.thinker", description="Serve a thinker.")
    parser.add_argument("--profile", choices=sorted(PROFILES))
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", help="the name requests must give")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"])
            sys.stderr.write(f"EDITTHINKER_THINKER_{where.upper()}: {error['msg']}\n")
        return 2
    if settings.profile not in PROFILES:
        sys.stderr.write(f"EDITTHINKER_THINKER_PROFILE: {settings.profile!r} is none of {sorted(PROFILES)}\n")
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    PROFILES[settings.profile](settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
