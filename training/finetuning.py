"""What SFT and GRPO over TRL share: options of a run, LoRA, precision, and metrics as JSON lines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

from training import plots, whole_files
from training.checkpoints import FINAL, METRICS, REWARDS, claim, last_whole, rewind
from training.metrics import MetricsFile

LANGUAGE: Final = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The language model's projections, by their names in Qwen2-VL, 2.5-VL and 3-VL; the vision tower keeps its weights."""
_NOT_OF_THE_RUN: Final = ("server", "api_key", "parallel", "cpu")
"""Options that may change when a run is continued."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of both commands."""
    parser.add_argument("rows", type=Path, help="the folder of an export: editthinker export --as trl -o ROWS")
    parser.add_argument("--model", required=True, help="a Qwen-VL: a folder or a name on the hub")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the run; one that was begun is continued")
    parser.add_argument("--split", default="train", help="of the export")
    parser.add_argument("--steps", type=int, default=-1, help="of the optimiser; by default as many as the epochs have")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--accumulate", type=int, default=1, help="batches of a step")
    parser.add_argument(
        "--lora", type=int, default=0, metavar="RANK", help="train LoRA matrices of this rank; 0 trains all weights"
    )
    parser.add_argument("--freeze-vision", action="store_true", help="keep the vision tower's weights (LoRA always does)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; bfloat16 with LoRA on a GPU")
    parser.add_argument("--warm-up", type=float, default=0.03, help="share of the steps")
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS", help="what a kill loses at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing: less memory, a third more time")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files, too")
    parser.add_argument("--cpu", action="store_true", help="where there is a GPU that is not to be used")


def on_gpu(options: argparse.Namespace) -> bool:
    """Whether a GPU trains."""
    return torch.cuda.is_available() and not options.cpu


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments that `SFTConfig` and `GRPOConfig` have in common."""
    gpu = on_gpu(options)
    return {
        "output_dir": str(options.out),
        "max_steps": options.steps,
        "num_train_epochs": options.epochs,
        "gradient_accumulation_steps": options.accumulate,
        "learning_rate": options.rate,
        "warmup_steps": options.warm_up,
        "lr_scheduler_type": "cosine",
        "save_steps": options.save_every,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_first_step": True,
        "report_to": ["tensorboard"] if options.tensorboard else [],
        "seed": options.seed,
        "bf16": gpu,
        "use_cpu": not gpu,
        "gradient_checkpointing": options.checkpointing,
        "disable_tqdm": True,
    }


def load_model(options: argparse.Namespace) -> tuple[Any, Any]:
    """(model, processor)."""
    light = bool(options.lora) and on_gpu(options)
    dtype = options.dtype or ("bfloat16" if light else "float32")
    model = AutoModelForImageTextToText.from_pretrained(options.model, dtype=getattr(torch, dtype))
    if options.freeze_vision:
        for name, parameter in model.named_parameters():
            if ".visual." in f".{name}":
                parameter.requires_grad = False
    return model, AutoProcessor.from_pretrained(options.model)


def lora(options: argparse.Namespace) -> LoraConfig | None:
    """LoRA of the language model, or None for a full fine-tuning."""
    if not options.lora:
        return None
    return LoraConfig(r=options.lora, lora_alpha=2 * options.lora, target_modules=LANGUAGE, task_type="CAUSAL_LM")


class JsonLines(TrainerCallback):  # type: ignore[misc]  # transformers is read as Any
    """Writes what the trainer logs as JSON lines.

    Args:
        stage: of the rows.
        metrics: where.
    """

    def __init__(self, stage: str, metrics: MetricsFile) -> None:
        self._stage, self._metrics = stage, metrics

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002
        """One row a step, on the first process."""
        if state.is_world_process_zero and logs is not None:
            self._metrics({"stage": self._stage, "step": state.global_step, **logs})


def begin(options: argparse.Namespace, stage: str) -> MetricsFile:
    """Claim the folder of a run, and forget what a kill left half done.

    Raises:
        OtherRunError: the folder holds another run.
    """
    given = {name: value for name, value in vars(options).items() if name not in _NOT_OF_THE_RUN}
    metrics = {name: MetricsFile(options.out / name) for name in (METRICS, REWARDS)}
    # Of several processes one tidies up, and the others find it done.
    with PartialState().main_process_first():
        claim(options.out, {"stage": stage, **given})
        if PartialState().is_main_process:
            for file in metrics.values():
                rewind(file, last_whole(options.out))
    return metrics[METRICS]


def finish(trainer: Any, processor: Any, options: argparse.Namespace) -> Path:
    """Train from the last checkpoint to the end; returns the folder of the model, or of its LoRA."""
    found = last_whole(options.out)
    trainer.train(resume_from_checkpoint=None if found is None else str(found))
    final: Path = options.out / FINAL
    trainer.save_model(str(final))
    if trainer.is_world_process_zero():
        processor.save_pretrained(final)
        metrics = MetricsFile(options.out / METRICS).read()
        whole_files.write(options.out / "plots.html", plots.page(str(options.out), metrics))
    return final
