from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.protocol.critique.messages import CritiqueRequest, Picture, build
from services.protocol.critique.prompts import Template
from services.thinker.profiles import load
from training.miniature.prompts import messages, pictures
from training.miniature.turns import turn
from training.miniature.world import scene


def plain(message: dict[str, Any]) -> list[str]:
    return [part["text"] if part["type"] == "text" else "picture" for part in message["content"]]


@pytest.mark.parametrize("intent", ["cast", "match"])
def test_the_trainer_asks_as_the_orchestrator_does(intent: str) -> None:
    rng = np.random.default_rng(1)
    asked = turn(scene(intent, rng), rng)  # type: ignore[arg-type]
    template = Template(Path(load()["miniature"].template or "").read_text("utf-8"))
    picture = Picture(b"", "image/png")
    references = () if asked.scene.reference is None else (picture,)
    request = CritiqueRequest(picture, picture, asked.scene.instruction, asked.turn_instruction, references=references)

    (served,) = build(request, template)

    (trained,) = messages(asked)
    assert trained["role"] == served["role"]
    assert plain(trained) == plain(served)
    assert len(pictures(asked)) == plain(trained).count("picture")
