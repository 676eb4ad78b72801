from __future__ import annotations

import numpy as np
import pytest

from services.embedded.instructions import parse
from training.miniature import colour, phrases
from training.miniature.looks import HELD_OUT, TRAINED
from training.miniature.photographs import SIDE, SPLITS
from training.miniature.world import INTENTS, FailedEditError, Splits, edit, operations, read, scene, scenes, written


def test_a_scene_is_determined_by_its_generator() -> None:
    first, second = (scenes(len(INTENTS), 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.instruction, one.seed) == (other.instruction, other.seed)
        assert np.array_equal(one.source, other.source)
        assert np.array_equal(one.target, other.target)


@pytest.mark.parametrize("intent", INTENTS)
def test_pictures_are_small_and_the_reference_is_there_where_it_is_asked_for(intent: str) -> None:
    for index in range(6):
        made = scene(intent, np.random.default_rng(index))  # type: ignore[arg-type]
        assert made.source.shape == made.target.shape == (SIDE, SIDE, 3)
        assert made.source.dtype == made.target.dtype == np.uint8
        assert (made.reference is not None) == (intent == "match")


def test_faults_go_in_both_directions() -> None:
    brighter = [
        colour.lab(made.target)[..., 0].mean() - colour.lab(made.source)[..., 0].mean()
        for made in (scene("exposure", np.random.default_rng(index)) for index in range(40))
    ]
    assert sum(change > 5 for change in brighter) >= 8
    assert sum(change < -5 for change in brighter) >= 8
    assert any(change == 0 for change in brighter)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_every_order_is_one_that_the_editor_carries_out(split: str) -> None:
    for name, forms in phrases.table(split)["orders"].items():
        for direction, texts in forms.items():
            for text in texts:
                instruction = parse(text.format(amount=24))
                assert not instruction.refusals, text
                (operation,) = instruction.operations
                assert (str(operation.kind), round(operation.amount, 2)) == (name, 0.24 if direction == "up" else -0.24), text


def test_every_adjustment_is_carried_out_and_read_back() -> None:
    source = scene("cast", np.random.default_rng(1)).source
    for name in operations():
        amounts = {name: 24}
        assert read(written(amounts)) == amounts
        assert not parse(written(amounts)).refusals
        assert not np.array_equal(edit(source, written(amounts), 1), source)


def test_no_change_has_words_too_and_the_editor_keeps_the_picture() -> None:
    source = scene("leave", np.random.default_rng(1)).source
    assert written({}) == "exposure +0%"
    assert read(written({})) == {}
    assert np.array_equal(edit(source, written({}), 1), source)


def test_a_refusal_says_why() -> None:
    with pytest.raises(FailedEditError, match="does not do this"):
        edit(scene("cast", np.random.default_rng(1)).source, "remove the car", 1)


def test_no_photograph_phrase_or_look_is_in_both_splits() -> None:
    assert not set(SPLITS["train"]) & set(SPLITS["held_out"])
    assert not {text.lower() for text in phrases.phrases("train")} & {text.lower() for text in phrases.phrases("held_out")}
    assert not set(TRAINED) & set(HELD_OUT)
    assert not set(TRAINED.values()) & set(HELD_OUT.values())


def test_both_splits_have_words_for_everything() -> None:
    trained, held_out = phrases.table("train"), phrases.table("held_out")
    assert set(held_out["intents"]) == set(trained["intents"])
    assert set(held_out["looks"]) == set(trained["looks"]) == set(TRAINED)
    assert {name: set(forms) for name, forms in held_out["orders"].items()} == {
        name: set(forms) for name, forms in trained["orders"].items()
    }


@pytest.mark.parametrize("intent", [intent for intent in INTENTS if intent != "order"])
def test_scenes_keep_to_their_splits(intent: str) -> None:
    for index in range(8):
        made = scene(intent, np.random.default_rng(index), Splits("held_out", "held_out", "held_out"))  # type: ignore[arg-type]
        assert made.photograph in SPLITS["held_out"]
        assert made.instruction in phrases.phrases("held_out")
        assert made.look in ({"", *HELD_OUT} if intent == "match" else {"", *TRAINED})


def test_words_around_a_phrase_are_for_training_only() -> None:
    assert "around" not in phrases.table("held_out")
