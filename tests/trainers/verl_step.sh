#!/usr/bin/env bash
# A step of verl's trainer with the shipped configuration, a tiny model and two processes, as far as this machine lets it:
#   verl_step.sh TRAINERS ROWS.parquet MODEL SERVER [OVERRIDE…]
# With torch's CPU build it ends where the processes form their group (docs/training.md). Ray has to be told of two GPUs.
set -euo pipefail
trainers=${1:?the folder of install.sh} rows=${2:?an export --as verl} model=${3:?a Qwen-VL} server=${4:?its URL}
shift 4
root=$(cd "$(dirname "$0")/../.." && pwd)
reward=reward.custom_reward_function.reward_kwargs
# Ray makes its workers nice, so that on a busy machine they do not start within its own time limits.
export PYTHONPATH=$root HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0
exec "$trainers/verl/bin/python" -m verl.trainer.main_ppo \
  --config-path "$root/training/configs" --config-name qwen3_vl_8b_8xh100 \
  "data.train_files=$rows" "data.val_files=$rows" data.train_batch_size=2 data.filter_overlong_prompts=false \
  data.dataloader_num_workers=0 data.max_response_length=64 \
  "actor_rollout_ref.model.path=$model" actor_rollout_ref.model.use_remove_padding=false \
  actor_rollout_ref.actor.ppo_mini_batch_size=2 actor_rollout_ref.actor.use_torch_compile=false \
  actor_rollout_ref.actor.fsdp_config.fsdp_size=2 actor_rollout_ref.actor.fsdp_config.optimizer_offload=false \
  actor_rollout_ref.ref.fsdp_config.param_offload=false \
  actor_rollout_ref.rollout.n=2 actor_rollout_ref.rollout.agent.num_workers=1 \
  reward.num_workers=1 "$reward.server=$server" "$reward.judge=rules" "+$reward.api_key=''" \
  trainer.device=cpu trainer.n_gpus_per_node=2 trainer.total_training_steps=1 trainer.val_before_train=false \
  trainer.test_freq=-1 trainer.save_freq=-1 'trainer.logger=[console]' \
  transfer_queue.backend.SimpleStorage.num_data_storage_units=1 ray_kwargs.ray_init.num_cpus=12 \
  +ray_kwargs.ray_init.num_gpus=2 "$@"
