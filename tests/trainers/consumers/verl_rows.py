"""Loads an export with verl's dataset class, and runs the page's tool: ``verl_rows.py DATA MODEL PAGE PHOTO``. Runs in verl's
environment.
"""

import asyncio
import json
import re
import sys
from pathlib import Path

from omegaconf import OmegaConf
from transformers import AutoProcessor
from verl.tools.schemas import OpenAIFunctionToolSchema
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

data, model, page, photo = sys.argv[1:]
processor = AutoProcessor.from_pretrained(model)
config = OmegaConf.create({"max_prompt_length": 16384, "filter_overlong_prompts": True, "filter_overlong_prompts_workers": 1})
files = sorted(str(path) for path in (Path(data) / "verl").glob("train-*.parquet"))
rows = RLHFDataset(files, processor.tokenizer, config, processor)
sent = [
    json.loads(line)["messages"] for path in sorted((Path(data) / "openai").glob("train-*.jsonl")) for line in path.open("rb")
]
assert len(rows) == len(sent), "a prompt was filtered out"


async def same(number: int) -> int:
    """The tokens of a prompt, which are those that a server makes of the request."""
    row = rows[number]
    images, _ = await RLHFDataset.process_vision_info(row["raw_prompt"], processor.image_processor.patch_size, config)
    text = processor.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
    assert text == processor.apply_chat_template(sent[number][:-1], add_generation_prompt=True, tokenize=False)
    assert text.count("<|image_pad|>") == len(images) >= 2
    assert json.loads(row["reward_model"]["ground_truth"])["instruction"] == row["extra_info"]["instruction"]
    return len(processor(text=[text], images=images)["input_ids"][0])


lengths = [asyncio.run(same(number)) for number in range(len(rows))]
batch = collate_fn([rows[0], rows[1]])
assert list(batch["data_source"]) == ["editthinker"] * 2

scope: dict = {"__name__": "page"}
blocks = re.findall(r"^```python\n(.*?)^```$", Path(page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
exec(next(block for block in blocks if "class EditTool" in block), scope)
argument = {"type": "string", "description": "what the editor is told"}
parameters = {"type": "object", "properties": {"instruction": argument}, "required": ["instruction"]}
function = {"name": "edit", "description": "Edit the picture again, from the source.", "parameters": parameters}
tool = scope["EditTool"]({}, OpenAIFunctionToolSchema.model_validate({"type": "function", "function": function}))


async def episode() -> float:
    name, first = await tool.create(create_kwargs={"image": photo, "instruction": "make it feel like golden hour"})
    assert "of 10" in first.text
    reply, reward, metrics = await tool.execute(name, {"instruction": "warmth +45%, brightness +10%"})
    await tool.release(name)
    assert "of 10" in reply.text and len(reply.image) == 1 and metrics["semantic"] is not None
    return reward


sys.stdout.write("\n" + json.dumps({"rows": len(rows), "prompt_tokens": lengths[0], "reward": asyncio.run(episode())}) + "\n")
