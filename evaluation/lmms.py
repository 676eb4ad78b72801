"""EditThinker as a model of lmms-eval: ``lmms-eval --model editthinker --model_args base_url=…,strategy=think --tasks …``.

Registered by the entry point ``lmms_eval.models``; written for lmms-eval 0.7.3. Its image tasks take a JSON text with the paths
of pictures as a model's answer. This module is imported by lmms-eval alone, in its environment: nothing else here needs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from editthinker import EditThinker
from editthinker.client import EditThinkerError


def manifest() -> ModelManifest:
    """What lmms-eval registers."""
    return ModelManifest(model_id="editthinker", simple_class_path="evaluation.lmms.EditThinkerModel")


class EditThinkerModel(lmms):  # type: ignore[misc] # lmms-eval is in an environment of its own
    """The whole loop as a model: a session for each request, on a running server.

    Args:
        base_url, api_key: of the server; as for the client if absent.
        output_image_dir: where the pictures go, whose paths are the answers.
        jobs: sessions at a time.
        options: of each session, such as ``strategy``, ``editor``, ``thinker``, ``judge``, ``max_turns`` and ``seed``.
    """

    is_simple = True

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        output_image_dir: str = "editthinker_images",
        jobs: int = 4,
        batch_size: int = 1,  # noqa: ARG002 - lmms-eval gives these to every model
        device: str | None = None,  # noqa: ARG002
        **options: Any,
    ) -> None:
        super().__init__()
        self._client = EditThinker(base_url, api_key)
        self._folder = Path(output_image_dir)
        self._jobs = int(jobs)
        self._options = {name: value for name, value in options.items() if value is not None}

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """For each request JSON with the path of its picture; without one, and with the reason, where its session failed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(self._jobs) as pool:
            return list(pool.map(self._answer, requests))

    def _answer(self, request: Any) -> str:
        instruction, _, doc_to_visual, doc_id, task, split = request.args
        visuals = doc_to_visual(self.task_dict[task][split][doc_id])
        pictures = [_png(visual) for visual in visuals if hasattr(visual, "save")]
        if not pictures:
            return json.dumps({"text": "the request has no picture", "images": []})
        parts = [task, str(doc_id), instruction, json.dumps(self._options, sort_keys=True), *map(_digest, pictures)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        try:
            edited = self._client.edit(pictures, instruction, format="png", idempotency_key=f"lmms-{key}", **self._options)
        except EditThinkerError as exc:
            return json.dumps({"text": str(exc), "images": []})
        path = self._folder / f"{task}_{doc_id}_{key}.png"
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(edited.image)
        draft.replace(path)
        return json.dumps({"text": edited.session.revised_prompt or instruction, "images": [str(path.resolve())]})

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not for editing."""
        message = "EditThinker has no dialogues of several rounds"
        raise NotImplementedError(message)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not for editing."""
        message = "EditThinker edits pictures, and gives no likelihoods"
        raise NotImplementedError(message)


def _png(picture: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
