"""Measures GRPO steps of a full-size Qwen3-VL-2B with LoRA on a GPU within eight minutes: ``python -m benchmarks.grpo_gpu``.

The published architecture with random weights in bfloat16, TRL's trainer with transformers' own generation, and prompts as ours
are: two pictures of 1024 tokens and the critic's text. Replies have a fixed length, and rewards are drawn, so that no server is
needed: what edits and judgements take is added to it. Two steps are taken; the first one warms up. Needs what
``tests/trainers/install.sh`` installs, or the extra ``train``, and downloads nothing. ``--dry-run`` runs the same code on a CPU
with a tiny model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig, AutoProcessor, Qwen3VLForConditionalGeneration, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from tests.vllm.tiny_vl import SIZES, write
from training.finetuning import lora

STEPS: Final = 2
PROMPT: Final = Path(__file__).parents[1] / "services" / "protocol" / "critique" / "prompts" / "editthinker.txt"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="grpo_gpu", description="GRPO steps of a random Qwen3-VL-2B with LoRA on a GPU")
    parser.add_argument("--group", type=int, default=8, help="replies to the prompt (8)")
    parser.add_argument("--reply", type=int, help="tokens of a reply (512; with --dry-run 8)")
    parser.add_argument("--side", type=int, help="of the pictures, in pixels (1024; with --dry-run 64)")
    parser.add_argument("--lora", type=int, default=64, metavar="RANK", help="0 trains all weights (64)")
    parser.add_argument("--kl", type=float, default=1e-3, help="0 leaves the reference out (0.001)")
    parser.add_argument("--seconds", type=float, default=480.0, help="end after so long, with what was measured (480)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON here")
    parser.add_argument(
        "--dry-run", action="store_true", help="a tiny model on the CPU: checks the code, the figures mean nothing"
    )
    options = parser.parse_args(argv)
    options.reply = options.reply or (8 if options.dry_run else 512)
    options.side = options.side or (64 if options.dry_run else 1024)
    return options


class Timed(GRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """Counts tokens and seconds of the generation."""

    asked, made, generating_s = 0, 0, 0.0

    def _generate_single_turn(self, prompt_ids: Any, *given: Any, **more: Any) -> Any:
        began = time.perf_counter()
        found = super()._generate_single_turn(prompt_ids, *given, **more)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.generating_s += time.perf_counter() - began
        self.asked += sum(map(len, prompt_ids))
        self.made += sum(map(len, found[0]))
        return found


class Rows(TrainerCallback):  # type: ignore[misc]  # transformers is read as Any
    """One row a step."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self.trainer: Any = None
        self._began, self._before = 0.0, (0, 0, 0.0)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step begins."""
        self._began = time.perf_counter()

    def on_step_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Write the row, and begin the next step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now, trainer = time.perf_counter(), self.trainer
        asked, made, generating = (
            after - before
            for after, before in zip((trainer.asked, trainer.made, trainer.generating_s), self._before, strict=True)
        )
        whole = now - self._began
        row = {
            "step": state.global_step,
            "seconds": whole,
            "generating_s": generating,
            "training_s": whole - generating,
            "prompt_tokens": asked,
            "reply_tokens": made,
            "generated_tokens_per_s": made / generating,
            "trained_tokens_per_s": (asked + made) / (whole - generating),
            "peak_memory_gib": _peak_bytes() / 2**30,
        }
        self._rows.append(row)
        _say("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        self._began, self._before = now, (trainer.asked, trainer.made, trainer.generating_s)


def measure(options: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    """Take the steps; each row is added as it comes. Returns how many weights are trained."""
    gpu = not options.dry_run
    with tempfile.TemporaryDirectory() as folder:
        write("qwen3_vl", Path(folder), SIZES["2b" if gpu else "tiny"], weights=False)
        processor = AutoProcessor.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        dtype = torch.bfloat16 if gpu else torch.float32
        torch.manual_seed(0)
        with torch.device("cuda" if gpu else "cpu"):
            model = Qwen3VLForConditionalGeneration._from_config(config, dtype=dtype)  # noqa: SLF001 - sets the dtype at once
        _say(f"{sum(weight.numel() for weight in model.parameters()) / 1e9:.3g} billion weights, {dtype}")
        callback = Rows(rows)
        callback.trainer = trainer = Timed(
            model,
            _reward,
            args=_config(options, folder),
            train_dataset=_dataset(options),
            processing_class=processor,
            peft_config=lora(options),
            callbacks=[callback],
        )
        trainer.train()
        return sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)


def _config(options: argparse.Namespace, folder: str) -> GRPOConfig:
    gpu = not options.dry_run
    return GRPOConfig(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=options.group,
        num_generations=options.group,
        max_completion_length=options.reply,
        generation_kwargs={"min_new_tokens": options.reply},
        beta=options.kl,
        learning_rate=1e-5,
        bf16=gpu,
        use_cpu=not gpu,
        gradient_checkpointing=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _dataset(options: argparse.Namespace) -> Dataset:
    """Prompts as the orchestrator's; pictures of noise."""
    text = PROMPT.read_text("utf-8").replace("<image>", "")
    noise = np.random.default_rng(0)
    shape = (options.side, options.side, 3)
    pictures = [Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)) for _ in range(2)]
    content = [{"type": "text", "text": text}, {"type": "image"}, {"type": "image"}, {"type": "text", "text": "Now judge it."}]
    row = {"prompt": [{"role": "user", "content": content}], "images": pictures}
    return Dataset.from_list([row] * STEPS)


def _reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [random.random() for _ in completions]


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rows, and write them as JSON if asked to."""
    options = arguments(argv)
    if not options.dry_run and not torch.cuda.is_available():
        print("this benchmark needs a GPU that torch can use, and there is none; --dry-run tries it out on a CPU")
        return 0
    rows: list[dict[str, Any]] = []

    def write_out(trained: int | None) -> None:
        device = "CPU" if options.dry_run else torch.cuda.get_device_name()
        given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
        report = {"device": device, "options": given, "versions": versions, "trained_weights": trained, "steps": rows}
        if options.out:
            options.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        print(json.dumps(report))

    def late() -> None:
        write_out(None)
        os._exit(0)

    alarm = threading.Timer(options.seconds, late)
    alarm.daemon = True
    alarm.start()
    trained = measure(options, rows)
    alarm.cancel()
    write_out(trained)
    return 0


if __name__ == "__main__":
    sys.exit(main())
