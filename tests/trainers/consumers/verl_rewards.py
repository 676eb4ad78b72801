"""Rewards replies to an export's prompts as verl's trainer does: ``verl_rewards.py DATA MODEL CONFIGS SERVER``. Runs in verl's
environment.

The shipped configuration names the dataset class, the reward function and the advantage estimator; verl's own code loads them,
decodes replies and computes advantages. Only the replies are not a model's.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoProcessor
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.utils import create_rl_dataset, need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.dataset.rl_dataset import collate_fn

data, model, configs, server = sys.argv[1:]
files = sorted(str(path) for path in (Path(data) / "verl").glob("train-*.parquet"))
kwargs = "reward.custom_reward_function.reward_kwargs"
overrides = [f"actor_rollout_ref.model.path={model}", "data.filter_overlong_prompts_workers=1"]
overrides += [f"{kwargs}.server={server}", f"{kwargs}.judge=rules", f"+{kwargs}.api_key=''"]
with initialize_config_dir(configs, version_base=None):
    config = compose("qwen3_vl_8b_8xh100", overrides=overrides)
validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
processor = AutoProcessor.from_pretrained(model)
rows = create_rl_dataset(files, config.data, processor.tokenizer, processor)
assert type(rows).__name__ == "EditThinkerDataset" and len(rows)
taught = [number for number in range(len(rows)) if (rows[number]["extra_info"]["reward"] or 0) > 0.9]
number = taught[0]
asked = rows[number]["extra_info"]["instruction"]


def reply(instruction: str) -> str:
    return f'<think>seen</think><score>{{"semantic": 5, "quality": 8}}</score><answer>{instruction}</answer>'


replies = [rows[number]["extra_info"]["completion"], reply(asked), reply("put a dragon on the table"), "a fine edit", reply("")]
batch = collate_fn([rows[number]] * len(replies))
encoded = [processor.tokenizer(text + "<|im_end|>")["input_ids"] for text in replies]
longest = max(map(len, encoded))
padded = [ids + [processor.tokenizer.pad_token_id] * (longest - len(ids)) for ids in encoded]
mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in encoded])
tensors = {
    "responses": torch.tensor(padded),
    "attention_mask": torch.cat([torch.ones(len(replies), 1, dtype=torch.long), mask], 1),
}
names = ("data_source", "reward_model", "extra_info")
worker = RewardLoopWorker(config)


async def rewarded() -> list[dict]:
    sent = DataProto.from_dict(tensors=tensors, non_tensors={name: batch[name] for name in names})
    return await worker.compute_score_batch(sent)


scores = [result["reward_score"] for result in worker.loop.run_until_complete(rewarded())]
good, same, refused, unreadable, empty = scores
assert good > same > refused > unreadable == 0, scores
assert empty < same, scores

# The editor is down: the reply is left out of its group, and the others' advantages are as they would be without it.
import training.verl_reward as reward  # noqa: E402 - where verl has put it

failed = worker.loop.run_until_complete(
    reward.compute_score(
        "editthinker", replies[1], "", rows[number]["extra_info"], judge="rules", server="http://127.0.0.1:9", api_key=""
    )
)
assert failed["score"] == reward.MASKED and failed["failed"] == 1, failed
token_scores = torch.zeros(4, longest)
token_scores[torch.arange(4), mask[:4].sum(1) - 1] = torch.tensor([good, failed["score"], refused, unreadable])
proto = DataProto.from_dict(
    tensors={"token_level_rewards": token_scores, "response_mask": mask[:4]},
    non_tensors={"uid": np.array(["a"] * 4, dtype=object)},
)
advantages = compute_advantage(proto, config.algorithm.adv_estimator, config=config.algorithm).batch["advantages"][:, 0]
assert advantages[1] == 0 and abs(float(advantages.sum())) < 1e-5 and advantages[0] > advantages[2] > advantages[3], advantages
found = {
    "rows": len(rows),
    "scores": [round(score, 3) for score in scores],
    "advantages": [round(float(a), 3) for a in advantages],
}
sys.stdout.write("\n" + json.dumps(found) + "\n")
