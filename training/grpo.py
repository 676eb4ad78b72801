"""GRPO of a Qwen-VL with the edits' own outcome as reward, over TRL and a running server.

    python -m training.grpo ROWS --model runs/sft/final --out runs/grpo --server http://127.0.0.1:8080 --judge qwen3-vl-30b

Each reply's instruction is edited and judged by the server (`training.services`), and rewarded by `training.rewards`. A run
that was killed goes on from its last checkpoint with the same command, and edits nothing twice. The parts of each reward are in
``OUT/rewards.jsonl``; a reply whose edit failed through no fault of its own is masked.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]
from trl import GRPOConfig, GRPOTrainer

from editthinker.client import AsyncEditThinker, EditThinkerError
from training import finetuning, rows
from training.checkpoints import REWARDS, OtherRunError
from training.metrics import MetricsFile
from training.replies import parse as parse_reply
from training.rewards import Weights, trl_reward
from training.services import Rollouts, served_rewards


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m training.grpo", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = __doc__
    finetuning.add_options(parser)
    parser.add_argument("--server", help="its URL; EDITTHINKER_BASE_URL by default")
    parser.add_argument("--api-key", help="EDITTHINKER_API_KEY by default")
    parser.add_argument(
        "--judge", required=True, help="the server's judge, or thinker, that scores; never the one that is trained"
    )
    parser.add_argument("--thinker", default="policy", help="the name under which the server knows the model, if it does")
    parser.add_argument("--sessions-thinker", metavar="NAME", help="of the rollouts' sessions; it writes nothing that counts")
    parser.add_argument("--editor", help="of the rollouts; by default the one that made each row's candidate")
    parser.add_argument("--seeds", type=int, default=2, help="edits that are averaged for each instruction")
    parser.add_argument("--parallel", type=int, default=8, help="edits in flight, of each process")
    parser.add_argument("--group", type=int, default=8, help="replies to each prompt")
    parser.add_argument("--prompts", type=int, default=1, help="prompts of a batch, on each device")
    parser.add_argument("--max-reply", type=int, default=1024, metavar="TOKENS")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=2e-6, help="highest learning rate; LoRA wants about ten times as much")
    parser.add_argument("--kl", type=float, default=1e-3, help="weight of the divergence from the model before")
    parser.add_argument("--weights", type=float, nargs=3, default=(0.2, 0.6, 0.2), metavar=("FORM", "EDIT", "CRITIC"))
    parser.add_argument("--vllm", action="store_true", help="generate with vLLM in this process (TRL's extra, on a GPU)")
    return parser.parse_args(arguments)


def train(options: argparse.Namespace) -> Path:
    """Train; returns the folder of the model, or of its LoRA.

    Raises:
        NoRowsError: there is nothing to train on.
        OtherRunError: the folder holds another run.
        ValueError: the judge is the model that is trained, or the weights are not shares of 1.
    """
    data = rows.load(options.rows, options.split, options.out / "cache")
    samples = rows.Samples(data)
    numbers = samples.usable()
    if len(numbers) < len(data):
        print(f"{len(data) - len(numbers)} rows with references or a mask are left out")
    if not numbers:
        raise rows.NoRowsError("each row has references or a mask")
    if not any(parse_reply(reply[0]["content"][0]["text"]) for reply in data["completion"]):
        raise rows.NoRowsError("no reply of these rows has the form that is rewarded; the thinker needs the format editthinker")
    client = AsyncEditThinker(options.server, options.api_key)
    metrics = finetuning.begin(options, "grpo")
    model, processor = finetuning.load_model(options)
    trainer = GRPOTrainer(
        model,
        _reward(options, client, samples, metrics),
        args=config(options),
        train_dataset=rows.prompts(data, numbers),
        processing_class=processor,
        peft_config=finetuning.lora(options),
        callbacks=[finetuning.JsonLines("grpo", metrics)],
    )
    return finetuning.finish(trainer, processor, options)


def config(options: argparse.Namespace) -> GRPOConfig:
    """TRL's settings."""
    vllm = {"use_vllm": True, "vllm_mode": "colocate"} if options.vllm else {}
    return GRPOConfig(
        **finetuning.settings(options),
        per_device_train_batch_size=options.group * options.prompts,
        num_generations=options.group,
        max_completion_length=options.max_reply,
        temperature=options.temperature,
        beta=options.kl,
        # A reply that was cut off has no form and earns 0; it is not masked, or endless replies would cost nothing.
        mask_truncated_completions=False,
        **vllm,
    )


def _reward(
    options: argparse.Namespace, client: AsyncEditThinker, samples: Callable[[int], Any], metrics: MetricsFile
) -> Callable[..., Awaitable[list[float | None]]]:
    """TRL's reward function; its sessions end with each batch."""
    folder = hashlib.sha256(str(options.out.absolute()).encode()).hexdigest()[:16]
    # Each process has sessions of its own: two that instruct one session would stop each other's edits.
    run = f"{folder}-{options.seed}-{PartialState().process_index}"
    rollouts = Rollouts(options.judge, options.sessions_thinker, options.editor, options.parallel, run=run)
    function, release = served_rewards(
        client, rollouts, thinker=options.thinker, seeds=options.seeds, weights=Weights(*options.weights)
    )
    log = MetricsFile(options.out / REWARDS)
    of_batch: dict[int, Any] = {}
    kept: list[dict[str, Any]] = []
    rewarded = trl_reward(function, of_batch.__getitem__, kept.append)

    async def edit_outcome(completions: Sequence[Any], sample: Sequence[int], **more: Any) -> list[float | None]:
        of_batch.clear()
        of_batch.update({number: samples(number) for number in set(sample)})
        kept.clear()
        try:
            values = await rewarded(completions, sample=sample)
        finally:
            await release()
        step = more["trainer_state"].global_step + 1
        for part in kept:
            log({"step": step, **part})
        metrics({"stage": "rewards", "step": step, "process": PartialState().process_index, **_summary(kept)})
        return values

    return edit_outcome


def _summary(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of the rewards' parts, and how many replies had which outcome."""
    told: dict[str, Any] = {}
    for name in ("total", "form", "edit", "critic"):
        values = [part[name] for part in parts if part[name] is not None]
        told[name] = sum(values) / len(values) if values else None
    for part in parts:
        told[part["outcome"]] = told.get(part["outcome"], 0) + 1
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    try:
        print(train(parse(arguments)))
    except (rows.NoRowsError, OtherRunError, ValueError, EditThinkerError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
