"""The miniature from the command line: every stage, or those that are named.

    python -m training.miniature OUT --seed 0                     all stages; called again, it goes on where it was killed
    python -m training.miniature OUT --stages gap rows            these only

Each stage prints its gate, and the command exits with 1 at the first one that is not passed. Runs with other seeds share the
rows of OUT.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from transformers.utils import logging

from training.miniature.pipeline import Miniature, Sizes, tiny


def main() -> int:
    """Run the stages; 1 if a gate is not passed."""
    options = _parser().parse_args()
    logging.disable_progress_bar()
    base = tiny() if options.tiny else Sizes()
    sizes = Sizes(**{one.name: getattr(options, one.name) or getattr(base, one.name) for one in fields(Sizes)})
    run = Miniature(options.out, options.seed, sizes)
    unknown = set(options.stages) - set(run.stages)
    if unknown:
        raise SystemExit(f"no stage {sorted(unknown)}: there are {', '.join(run.stages)}")
    passed = run.run(options.stages, past_gates=options.tiny)
    return 0 if passed or options.tiny else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.miniature", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = __doc__
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", default=[], metavar="STAGE")
    parser.add_argument("--tiny", action="store_true", help="two steps of everything, past the gates: do the stages run?")
    for one in fields(Sizes):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=int, help=f"default {one.default}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
