"""Runs the page's environment inside GRPOTrainer: ``trl_environment.py DATA MODEL PAGE``. Runs in TRL's environment.

A random model calls no tool, so the replies are given: calls of ``edit``, then a closing word. All else is TRL's own: it makes
the environments, resets them with the row, reads the calls, runs the tool, puts its picture into the prompt and takes the reward.
"""

import json
import re
import sys
from pathlib import Path

import trl
from datasets import load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

data, model, page = sys.argv[1:]
scope: dict = {"__name__": "page"}
blocks = re.findall(r"^```python\n(.*?)^```$", Path(page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
exec(next(block for block in blocks if "class Edit:" in block), scope)
processor = AutoProcessor.from_pretrained(model)
# The published template, by which TRL knows how calls are written.
processor.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text("utf-8")
rows = load_dataset("parquet", data_dir=f"{data}/trl", split="train")
row = next(number for number, role in enumerate(rows["turn"]) if role == 1)
columns = rows.select([row]).select_columns(["prompt", "images", "instruction"])


def call(instruction: str) -> str:
    body = json.dumps({"name": "edit", "arguments": {"instruction": instruction}})
    return f"<tool_call>\n{body}\n</tool_call><|im_end|>"


turns = [[call("warmth +45%, brightness +10%"), call("make it much colder and bluer")], ["done<|im_end|>", "done<|im_end|>"]]
asked: list[int] = []
seen: list[list[float]] = []


class Given(GRPOTrainer):
    def _generate_single_turn(self, prompt_ids: list, images: list, *_: object, **__: object) -> tuple:
        asked.append(sum(len(pictures or ()) for pictures in images))
        return [processor.tokenizer(text)["input_ids"] for text in turns[len(asked) - 1]], None


trainer = Given(
    AutoModelForImageTextToText.from_pretrained(model),
    args=GRPOConfig(
        f"{data}/environment",
        max_steps=1,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=2048,
        use_cpu=True,
        bf16=False,
        report_to=[],
    ),
    train_dataset=columns,
    processing_class=processor,
    environment_factory=scope["Edit"],
)
loss = trainer.train().training_loss
rewards = [environment.get_reward() for environment in trainer.environments]
# Two prompts of two pictures each; then one more picture in each, which the tool has returned.
assert asked == [4, 6], asked
assert rewards[0] > rewards[1] > 0, rewards
logged = next(log for log in trainer.state.log_history if "reward" in log)
assert abs(logged["reward"] - sum(rewards) / 2) < 1e-4, (logged, rewards)
for environment in trainer.environments:
    environment._env.close()
sys.stdout.write("\n" + json.dumps({"rewards": [round(reward, 3) for reward in rewards], "loss": loss}) + "\n")
