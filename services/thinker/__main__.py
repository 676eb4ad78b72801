"""``python -m services.thinker --profile NAME``: serve chat completions that critique edits.

``rules`` is served by this process. Every other profile is vLLM, which this process becomes: there is no wrapper left
between callers and it. This module imports neither until it knows which one it is to be.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from pydantic import ValidationError

from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS
from services.thinker.profiles import EMBEDDED, Overrides, Profile, ProfileError, arguments, load
from services.thinker.settings import PREFIX, Settings
from services.thinker.vllm import VllmNotFoundError, doubts, executable, shown

_CONSTRAINTS: Final[tuple[Constraint, ...]] = ("regex", "json_schema")


def main() -> int:
    """Read settings (options over environment over defaults) and serve until SIGTERM."""
    options, extra = _command_line(sys.argv[1:])
    only = {name: options.pop(name) for name in ("only_print", "show")}
    try:
        settings = Settings(**options)
        profiles = load(settings.profiles)
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"]).upper().removeprefix(PREFIX)
            _say(f"{PREFIX}{where}: {error['msg'].removeprefix('Value error, ')}")
        return 2
    except ProfileError as exc:
        _say(f"{PREFIX}PROFILES: {exc}")
        return 2
    if settings.profile in profiles:
        return _vllm(settings, profiles[settings.profile], extra, **only)
    if settings.profile != EMBEDDED or any(only.values()):
        others = "" if any(only.values()) else f", nor {EMBEDDED}"
        _say(f"{PREFIX}PROFILE: {settings.profile!r} is none of the vLLM profiles {sorted(profiles)}{others}")
        return 2
    if extra:
        _say(f"unknown arguments: {shlex.join(extra)}")
        return 2
    try:
        _rules(settings)
    except SystemExit as exc:
        # uvicorn's own status for it is 3. What is wrong is in its log, as a record; this is for people.
        _say(f"the thinker cannot start: {exc.__context__ or 'its log says why'}")
        return 1
    return 0


def _command_line(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Options by name, and what is vLLM's: whatever follows ``--``, and whatever is not ours."""
    parser = argparse.ArgumentParser(
        prog="python -m services.thinker",
        description="Serve a thinker.",
        epilog=f"Whatever follows -- goes to vLLM as it is. Further settings: {PREFIX}… in the environment (docs/thinker.md).",
        allow_abbrev=False,
    )
    parser.add_argument("--profile", help=f"{EMBEDDED} (the default), {', '.join(load())}, or one of your own")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8200)")
    parser.add_argument("--model", help="vLLM: a folder or a hub id; rules: the name requests must give")
    parser.add_argument("--served-name", help="vLLM: the name requests must give")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print vLLM's command, and do not run it")
    parser.add_argument("--show", action="store_true", help="print the profile, and what the orchestrator is to be told")
    ours, after = list(words), []
    if "--" in ours:
        place = ours.index("--")
        ours, after = ours[:place], ours[place + 1 :]
    # `editthinker thinker serve` eats the separator, so arguments of vLLM may stand among ours.
    known, unknown = parser.parse_known_args(ours)
    return {name: value for name, value in vars(known).items() if value is not None}, [*unknown, *after]


def _rules(settings: Settings) -> None:
    # Imported here: a vLLM profile must start without numpy and OpenCV, and this one without vLLM.
    import uvicorn  # noqa: PLC0415

    from services.embedded.thinker.app import Limits, create_app  # noqa: PLC0415
    from services.imaging.codec import ImageLimits  # noqa: PLC0415
    from services.serving import logs, tracing  # noqa: PLC0415

    key = settings.api_key.get_secret_value() if settings.api_key else None
    logs.configure(settings.log_level, settings.log_format, service="thinker", secrets=[key], ids=tracing.ids)
    tracing.configure("editthinker-thinker", settings.otlp_endpoint)
    limits = Limits(
        model=settings.model or EMBEDDED,
        workers=settings.workers,
        queue=settings.queue,
        images=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        api_key=key,
    )
    uvicorn.run(
        create_app(limits),
        host=settings.host,
        port=settings.port,
        # Its logs go the way of all others; a line for each request comes from services.serving.middleware.
        log_config=None,
        access_log=False,
        # The longest critique takes a fraction of a second.
        timeout_graceful_shutdown=5,
    )


def _vllm(settings: Settings, profile: Profile, extra: Sequence[str], *, show: bool, only_print: bool) -> int:
    """Become vLLM, or only tell of it."""
    if show:
        _show(settings, profile)
        return 0
    overrides = Overrides(
        host=settings.host,
        port=settings.port,
        model=settings.model,
        served_name=settings.served_name,
        extra=tuple(extra),
    )
    words = arguments(profile, overrides)
    try:
        command = [executable(settings.vllm), *words]
    except VllmNotFoundError as exc:
        if not only_print:
            _say(str(exc))
            return 2
        command = [settings.vllm or "vllm", *words]
    for doubt in doubts(words):
        _say(f"warning: {doubt}")
    if only_print:
        sys.stdout.write(shown(command) + "\n")
        return 0
    _say(shown(command))
    sys.stderr.flush()
    if settings.api_key:
        # Not as an option, which everybody on the machine could read.
        os.environ["VLLM_API_KEY"] = settings.api_key.get_secret_value()
    return os.execvp(command[0], command)  # noqa: S606 - this is what the command is for


def _show(settings: Settings, profile: Profile) -> None:
    """The profile as JSON, then a line for the orchestrator's environment."""
    sys.stdout.write(json.dumps(asdict(profile), indent=1, ensure_ascii=False) + "\n")
    name = settings.served_name or profile.served_name
    constraint = next((kind for kind in _CONSTRAINTS if FORMATS[profile.format].bind().constraint(kind)), "none")
    entry = {"url": f"http://{settings.host}:{settings.port}/v1", "model": name, "format": profile.format}
    entry |= {"constraint": constraint} | ({"template": profile.template} if profile.template else {})
    sys.stdout.write(f"EDITTHINKER_THINKERS={shlex.quote(json.dumps({name: entry}))}\n")


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    raise SystemExit(main())
