from __future__ import annotations

import numpy as np
import pytest

from training.miniature import gap, search
from training.miniature.editing import adjusted
from training.miniature.world import INTENTS, edit, operations, scene, scenes, written


def test_amounts_act_as_their_words_do() -> None:
    rng = np.random.default_rng(3)
    for made in scenes(16, 1):
        amounts = {name: int(rng.integers(-20, 21)) * 4 for name in operations() if rng.random() < 0.4}
        amounts |= {name: abs(amount) for name, amount in amounts.items() if name in ("vignette", "sepia")}
        assert np.array_equal(adjusted(made.source, amounts, made.seed), edit(made.source, written(amounts), made.seed))


@pytest.mark.parametrize("intent", INTENTS)
def test_the_search_finds_an_instruction_that_is_better_than_nothing(intent: str) -> None:
    for index in range(3):
        made = scene(intent, np.random.default_rng(index))  # type: ignore[arg-type]
        found = search.best(made)
        assert found.distance <= 0.9 * made.whole or made.whole < 1
        assert found.instruction
        assert all(amount % search.STEP == 0 for amount in found.amounts.values())


def test_a_known_adjustment_is_found() -> None:
    made = scene("order", np.random.default_rng(4))
    assert search.best(made).distance < 1.5


def test_looking_is_worth_more_than_the_look_up() -> None:
    """In the small; the stage `gap` of the miniature measures it with intervals."""
    made = [scene("exposure", np.random.default_rng((9, index))) for index in range(5)]
    table = {"exposure": written(search.fixed([scene("exposure", np.random.default_rng((8, index))) for index in range(8)]))}
    rows = [gap.measured(one, table) for one in made]
    assert gap.share(rows)[0] >= gap.REQUIRED
