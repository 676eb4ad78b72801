"""Supervised fine-tuning of a Qwen-VL on the replies of an export, over TRL.

    python -m training.sft ROWS --model Qwen/Qwen3-VL-8B-Instruct --out runs/sft --lora 64

Trained are the replies alone; prompts and pictures are those that the thinker was served. A run that was killed goes on from its
last checkpoint with the same command. The model, or its LoRA, is in ``OUT/final``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trl import SFTConfig, SFTTrainer

from training import finetuning, rows
from training.checkpoints import OtherRunError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m training.sft", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = __doc__
    finetuning.add_options(parser)
    parser.add_argument("--batch", type=int, default=1, help="rows of a batch, on each device")
    parser.add_argument("--rate", type=float, default=1e-5, help="highest learning rate; LoRA wants about ten times as much")
    parser.add_argument("--gain", type=float, metavar="POINTS", help="only replies whose instruction gained so much of 10")
    return parser.parse_args(arguments)


def train(options: argparse.Namespace) -> Path:
    """Train; returns the folder of the model, or of its LoRA.

    Raises:
        NoRowsError: there is nothing to train on.
        OtherRunError: the folder holds another run.
    """
    data = rows.load(options.rows, options.split, options.out / "cache")
    if options.gain is not None:
        data = data.filter(lambda gain: gain is not None and gain >= options.gain, input_columns=["gain"])
        if not len(data):
            raise rows.NoRowsError(f"no reply gained {options.gain:g} points")
    metrics = finetuning.begin(options, "sft")
    model, processor = finetuning.load_model(options)
    trainer = SFTTrainer(
        model,
        # No length: a prompt that is cut loses the tokens of its pictures.
        SFTConfig(**finetuning.settings(options), per_device_train_batch_size=options.batch, max_length=None),
        train_dataset=data.select_columns(["prompt", "completion", "images"]),
        processing_class=processor,
        peft_config=finetuning.lora(options),
        callbacks=[finetuning.JsonLines("sft", metrics)],
    )
    return finetuning.finish(trainer, processor, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    try:
        print(train(parse(arguments)))
    except (rows.NoRowsError, OtherRunError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
