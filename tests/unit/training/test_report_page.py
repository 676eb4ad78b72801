"""The page of plots and the model card."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from training import plots
from training.card import card

ROWS = [
    {"stage": "sft", "step": 1, "loss": 3.0, "cpu_s": 1.0},
    {"stage": "sft", "step": 2, "loss": 2.0, "cpu_s": 2.0},
    {"stage": "sft", "step": 2, "loss": 1.0, "cpu_s": 2.5},
    {"stage": "grpo-rewards", "step": 1, "total": None, "edit": 0.5},
    {"stage": "grpo-rewards", "step": 2, "total": 0.7, "edit": 0.6},
]


def test_of_a_step_that_was_done_again_the_last_counts() -> None:
    assert [row["loss"] for row in plots.latest(ROWS, "sft")] == [3.0, 1.0]


def test_a_page_holds_a_curve_of_every_number_and_loads_nothing() -> None:
    page = plots.page("a < b", ROWS)
    assert "a &lt; b" in page
    for forbidden in ("http:", "https:", "src=", "<script", "@import"):
        assert forbidden not in page
    figures = page.split("<figure>")[1:]
    assert [figure.split("<figcaption>")[1].split("<")[0] for figure in figures] == ["loss", "total", "edit"]
    for figure in figures:
        svg = ET.fromstring(figure.split("</figcaption>")[1].split("</figure>")[0])
        points = [[float(value) for value in pair.split(",")] for pair in svg[0].attrib["points"].split()]
        assert all(0 <= x <= 520 and 0 <= y <= 200 for x, y in points)
    falling = ET.fromstring(figures[0].split("</figcaption>")[1].split("</figure>")[0])[0].attrib["points"].split()
    assert float(falling[0].split(",")[1]) < float(falling[1].split(",")[1])  # down is a larger y


def test_a_card_says_what_made_it_and_what_it_cost() -> None:
    text = card("grpo", 3, {"shards": 2, "rl_steps": 7}, "| a table |\n", [*ROWS, {"stage": "grpo", "step": 7, "cpu_s": 31.4}])
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "python -m training.miniature OUT --seed 3 --shards 2 --rl-steps 7" in text
    assert "- sft: 2 steps, 2 CPU-seconds" in text
    assert "- grpo: 1 steps, 31 CPU-seconds" in text
    assert "| a table |" in text
