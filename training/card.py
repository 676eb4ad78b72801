"""The model card that lies next to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.plots import latest

_TRAINED = {
    "sft": "SFT on replies with searched instructions",
    "sft-longer": "SFT on replies with searched instructions, continued for as many CPU-seconds as GRPO would have had",
    "grpo": "SFT on replies with searched instructions, then GRPO with the edit's own outcome as reward",
}


def card(name: str, seed: int, sizes: Mapping[str, int], table: str, metrics: Sequence[Mapping[str, Any]]) -> str:
    """The card of one of a run's models as Markdown.

    Args:
        name: of the model's stage.
        seed: of the run.
        sizes: of the run (`training.miniature.pipeline.Sizes`).
        table: its evaluation, Markdown.
        metrics: its metrics.
    """
    spent = {stage: latest(metrics, stage) for stage in dict.fromkeys(("read-out", "sft", name))}
    costs = "\n".join(
        f"- {stage}: {len(found)} steps, {found[-1]['cpu_s']:.0f} CPU-seconds" for stage, found in spent.items() if found
    )
    options = " ".join(f"--{option.replace('_', '-')} {value}" for option, value in sizes.items())
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# Miniature thinker, {name}, seed {seed}

A Qwen3-VL of four million parameters, trained from random weights: {_TRAINED[name]}. It exists to show that the pipeline trains,
and is not meant for anybody's pictures.

## What it was trained on

Crops of 64 pixels of six photographs that scikit-image ships or this repository holds, with random faults (exposure, cast,
shadow over one side), ten looks, and the English phrases of `training/miniature/phrases.toml`. No picture or text of a person's
session. Instructions are searched by editing with the embedded editor; scores are the distance to a target that the thinker does
not see.

{costs}

## What it knows, and its limits

- It reads the prompt of `services/thinker/miniature.txt` only, pictures of 64 pixels, and eight kinds of instruction: correct a
  cast, the exposure, both, or one side; match a reference; one of ten looks; an explicit order; leave it.
- Instructions are sliders of the embedded editor. It knows no objects, no places but the four sides, and no other language.
- Its scores are relative to this world's hidden targets. They are no measure of a picture.
- Words, photographs and looks that it was not trained on are measured apart, below; so is a thinker that is shown grey pictures.

## Evaluation

Mean CIELAB distance to the target, 95 % intervals by bootstrap. Score error and correlation are those of the semantic score, on
candidates of all qualities; false satisfaction is the share of candidates that deserve less than 5 and are given 8 or more.

{table}
## Licence

Apache-2.0, as the code that makes it. The photographs keep their own licences (scikit-image's, and
`benchmarks/honesty/photos`).

## Made by

    python -m training.miniature OUT --seed {seed} {options}
"""
