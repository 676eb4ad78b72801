"""The miniature from the command line.

    python -m training.miniature gap                  how much of the distance only looking removes
    python -m training.miniature rows OUT             search the rows of training and of each held-out split
    python -m training.miniature train OUT            vision read-out, then SFT; goes on where it was killed
    python -m training.miniature evaluate OUT         the table of all splits

Each prints its gate, and exits with 1 where that is not passed. Rows are searched with the editor's packages alone; training
needs the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from training.metrics import MetricsFile
from training.miniature import evaluating, gap, rows
from training.miniature.rows import TaughtTurn
from training.miniature.world import Splits

HELD_OUT: Final[dict[str, Splits]] = {
    "fresh": Splits(),
    "photographs": Splits(photographs="held_out"),
    "words": Splits(words="held_out"),
    "looks": Splits(looks="held_out"),
}
"""What is measured apart: new scenes of what was trained on, then one thing at a time that was not."""
_SEEDS: Final = {"train": 1, "fresh": 2, "photographs": 3, "words": 4, "looks": 5}
VALID_GATE: Final = 0.95


def main() -> int:
    """Run one command; 1 if its gate is not passed."""
    options = _parser().parse_args()
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "gap": _gap,
        "rows": _rows,
        "train": _train,
        "evaluate": _evaluate,
    }
    return commands[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.miniature", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = __doc__
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("gap")
    asked.add_argument("--scenes", type=int, default=160)
    asked.add_argument("--fitted", type=int, default=20, help="scenes over which each fixed instruction is searched")
    for name in ("rows", "train", "evaluate"):
        command = commands.add_parser(name)
        command.add_argument("out", type=Path)
        command.add_argument("--shards", type=int, default=40, help=f"of {rows.SHARD} scenes, {rows.TURNS} turns each")
        if name == "rows":
            command.add_argument("--held-out", type=int, default=2, help="shards of each held-out split")
        else:
            command.add_argument("--seed", type=int, default=0)
            command.add_argument("--blind", action="store_true", help="the control that is shown grey pictures")
        if name == "train":
            command.add_argument("--read-out-steps", type=int, default=200)
            command.add_argument("--steps", type=int, default=800)
            command.add_argument("--batch", type=int, default=16)
            command.add_argument("--cpu-seconds", type=float, default=math.inf, help="stop SFT after so many")
    return parser


def _gap(options: argparse.Namespace) -> int:
    passed = True
    held_out = Splits(photographs="held_out", looks="held_out")
    for name, splits in (("photographs of training", Splits()), ("held-out photographs, looks", held_out)):
        measured = gap.rows_of(options.scenes, options.fitted, splits)
        share, low, _ = gap.share(measured)
        passed = passed and share >= gap.REQUIRED
        verdict = "passed" if share >= gap.REQUIRED else "NOT passed"
        print(f"{name} (mean CIELAB distance to the target)\n{gap.printed(measured)}")
        print(
            f"gate: the gap is {share:.2f} of the whole (at least {low:.2f}), {gap.REQUIRED:.2f} required: {verdict}\n",
            flush=True,
        )
    return 0 if passed else 1


def _rows(options: argparse.Namespace) -> int:
    for name, splits in {"train": Splits(), **HELD_OUT}.items():
        for number in range(options.shards if name == "train" else options.held_out):
            rows.shard(options.out / name, number, _SEEDS[name], splits)
            print(f"{name}: shard {number}", flush=True)
    return 0


def _folder(options: argparse.Namespace) -> Path:
    folder: Path = options.out / f"seed-{options.seed}"
    return folder


def _stored(folder: Path, shards: int) -> list[TaughtTurn]:
    """The rows that are there, at most so many shards."""
    found = [int(path.stem) for path in sorted(folder.glob("[0-9]*.npz")) if path.stem.isdigit()][:shards]
    if not found:
        raise SystemExit(f"no rows in {folder}: run `python -m training.miniature rows` first")
    return [row for number in found for row in rows.shard(folder, number, 0)]


def _train(options: argparse.Namespace) -> int:
    from training.miniature import model, stages  # noqa: PLC0415 - the other commands need no torch
    from training.stage import Plan  # noqa: PLC0415 - as above

    folder, stored = _folder(options), _stored(options.out / "train", options.shards)
    thinker, processor = stages.thinker_of(folder, options.seed)
    print(f"{model.parameters(thinker) / 1e6:.2f} M parameters, {len(stored)} rows", flush=True)
    # The vision tower of the control learns to see as well; only its thinker is shown nothing.
    error = stages.read_out(folder, thinker, processor, stored, Plan(options.read_out_steps, 32, 2e-3, options.seed))
    seen = error <= stages.READ_OUT_GATE
    print(f"gate: read-out error {error:.3f}, at most {stages.READ_OUT_GATE}: {'passed' if seen else 'NOT passed'}", flush=True)
    plan = Plan(options.steps, options.batch, seed=options.seed, blind=options.blind)
    stages.sft(folder, thinker, processor, stored, plan, options.cpu_seconds)
    trained = folder / ("sft-blind" if options.blind else "sft")
    thinker.save_pretrained(trained)
    processor.save_pretrained(trained)
    return 0 if seen else 1


def _evaluate(options: argparse.Namespace) -> int:
    from training.miniature import model  # noqa: PLC0415 - as above

    folder = _folder(options)
    name = "sft-blind" if options.blind else "sft"
    thinkers = {"rules": evaluating.rule_thinker, name: evaluating.model_thinker(*model.load(folder / name), blind=options.blind)}
    metrics, reports = MetricsFile(folder / "evaluation.jsonl"), []
    for split in HELD_OUT:
        stored = _stored(options.out / split, options.shards)
        for thinker, ask in thinkers.items():
            one = evaluating.report(stored, ask(stored))
            reports.append((split, thinker, one))
            metrics({"split": split, "thinker": thinker, **json.loads(json.dumps(asdict(one)))})
    print(evaluating.table(reports))
    valid = min(one.valid for _, thinker, one in reports if thinker == name)
    print(f"gate: {valid:.2f} of the replies valid, {VALID_GATE} required: {'passed' if valid >= VALID_GATE else 'NOT passed'}")
    return 0 if valid >= VALID_GATE else 1


if __name__ == "__main__":
    sys.exit(main())
