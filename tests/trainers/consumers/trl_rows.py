"""Loads an export with `datasets`, and trains a step on it with TRL: ``trl_rows.py DATA MODEL PAGE``. Runs in its environment."""

import json
import re
import sys
from pathlib import Path

from datasets import Image, load_dataset
from PIL.Image import Image as Picture
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import get_json_schema
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

data, model, page = sys.argv[1:]
splits = load_dataset("parquet", data_dir=f"{data}/trl")
rows = splits["train"]
assert isinstance(rows.features["images"].feature, Image), rows.features
assert all(isinstance(picture, Picture) for row in rows for picture in row["images"])
assert len(splits["test"]) and {row["session"] for row in splits["test"]}.isdisjoint(row["session"] for row in rows)
pairs = load_dataset("parquet", data_dir=f"{data}/pairs", split="train")
assert isinstance(pairs[0]["left_output_image"], Picture) and isinstance(pairs[0]["source_img"], Picture)
assert len(load_dataset("json", data_dir=f"{data}/swift", split="train")) == len(rows)

processor = AutoProcessor.from_pretrained(model)
collator = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
batch = collator([rows[0], rows[1]])
assert batch["pixel_values"].shape[0] == int(batch["image_grid_thw"].prod(dim=1).sum())

# What TRL makes of the row is what a server makes of the request, token for token.
sent = next(json.loads(line) for line in (Path(data) / "openai/train-00000.jsonl").open("rb"))["messages"]
pictures = rows[0]["images"]
text = processor.apply_chat_template(sent[:-1], add_generation_prompt=True, tokenize=False)
served = processor(text=[text], images=pictures)["input_ids"][0]
length = len(served)
assert batch["input_ids"][0][:length].tolist() == list(served)
assert set(batch["labels"][0][:length].tolist()) == {-100}
trained = [token for token in batch["labels"][0].tolist() if token != -100]
assert processor.tokenizer.decode(trained).startswith(rows[0]["completion"][0]["content"][0]["text"])

trainer = SFTTrainer(
    AutoModelForImageTextToText.from_pretrained(model),
    SFTConfig(f"{data}/out", max_steps=1, per_device_train_batch_size=2, max_length=None, use_cpu=True, report_to=[], bf16=False),
    train_dataset=rows,
    processing_class=processor,
)
loss = trainer.train().training_loss

scope = {"__name__": "page"}
blocks = re.findall(r"^```python\n(.*?)^```$", Path(page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
exec(next(block for block in blocks if "class Edit:" in block), scope)
tool = get_json_schema(scope["Edit"].edit)
assert tool["function"]["parameters"]["required"] == ["instruction"], tool
sys.stdout.write("\n" + json.dumps({"rows": len(rows), "pairs": len(pairs), "prompt_tokens": length, "loss": loss}) + "\n")
