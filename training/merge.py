"""A LoRA merged into its model, so that a server loads it as one: ``python -m training.merge runs/sft/final --out thinker``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor


def merge(adapter: Path, out: Path, model: str | None = None, dtype: str = "bfloat16") -> None:
    """Write model, processor and chat template.

    Args:
        adapter: ``final`` of a run with ``--lora``.
        out: the folder of the whole model.
        model: what the LoRA was trained on; by default what it names.
        dtype: of the weights that are written.
    """
    base = model or PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    # In float32: in half precision small changes are lost in the sum.
    whole = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(whole, adapter).merge_and_unload()
    merged.to(getattr(torch, dtype)).save_pretrained(out)
    AutoProcessor.from_pretrained(adapter).save_pretrained(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m training.merge", description=__doc__)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="what the LoRA was trained on; by default what it names")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    options = parser.parse_args(arguments)
    merge(options.adapter, options.out, options.model, options.dtype)
    return 0


if __name__ == "__main__":
    sys.exit(main())
