"""Runs vLLM's argument parser: reads lists of words as JSON from stdin, and writes the result of each as JSON to stdout.

Runs inside of vLLM's environment, and goes as far as ``vllm serve`` does before it looks at a model or a device.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

# vLLM makes the texts of its options only for who asks for help, and they tell which options are about to go.
sys.argv.append("--help")

from vllm.engine.arg_utils import AsyncEngineArgs  # type: ignore[import-not-found]  # noqa: E402
from vllm.entrypoints.cli.serve import ServeSubcommand  # type: ignore[import-not-found]  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]  # noqa: E402


class _Kept(logging.Handler):
    """Records log messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """All warnings of vLLM and of Python within the context."""
    kept, logger = _Kept(), logging.getLogger("vllm")
    logger.addHandler(kept)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield kept.messages
            kept.messages += [str(warning.message) for warning in caught]
    finally:
        logger.removeHandler(kept)


def judge(words: Sequence[str]) -> dict[str, Any]:
    """The error with which vLLM refuses the words, if any; its warnings; and its deprecations."""
    command = ServeSubcommand()
    parser = FlexibleArgumentParser()
    serve = command.subparser_init(parser.add_subparsers(dest="subparser"))
    said, error = io.StringIO(), None
    with _overheard() as heard:
        try:
            with contextlib.redirect_stderr(said):
                given = parser.parse_args(list(words))
            command.validate(given)
            AsyncEngineArgs.from_cli_args(given)
        except SystemExit:
            error = said.getvalue()
        except Exception as exc:  # noqa: BLE001 - any exception is the result
            error = f"{type(exc).__name__}: {exc}"
    options = {option: action.help or "" for action in serve._actions for option in action.option_strings}
    heard += [f"{word}: {options[word]}" for word in words if "deprecated" in options.get(word, "").lower()]
    return {"error": error, "warnings": heard}


if __name__ == "__main__":
    json.dump([judge(words) for words in json.load(sys.stdin)], sys.stdout)
