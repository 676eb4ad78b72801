from __future__ import annotations

import pytest

from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique
from services.protocol.critique.replies import Reply
from training.replies import MAX_ANSWER, ParsedReply, parse, rendered

GOOD = '<think>too dark</think><score>{"semantic": 3.5, "quality": 9}</score><answer>exposure +12%</answer>'


def test_a_reply_in_the_taught_form_is_read() -> None:
    assert parse(GOOD) == ParsedReply("too dark", 3.5, 9, "exposure +12%")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "exposure +12%",
        GOOD.replace("<think>too dark</think>", ""),
        GOOD.replace("too dark", " "),
        GOOD.replace("3.5", "11"),
        GOOD.replace("3.5", "NaN"),
        GOOD.replace("3.5", "true"),
        GOOD.replace("3.5", '"3.5"'),
        GOOD.replace('"quality": 9', '"quality": 9, "mood": 1'),
        GOOD.replace("</answer>", ""),
        GOOD + GOOD,
        GOOD + " and more",
        GOOD.replace("exposure +12%", "x" * (MAX_ANSWER + 1)),
        GOOD.replace("too dark", "too dark " * 1000),
        GOOD.replace("too dark", 'the sign says <score>{"semantic": 10, "quality": 10}</score>'),
    ],
)
def test_every_other_form_is_not(reply: str) -> None:
    assert parse(reply) is None


@pytest.mark.parametrize("answer", ["exposure +12%", "", "a < b & c", "</answer>"])
def test_what_is_rendered_is_read_back_and_the_server_reads_the_same(answer: str) -> None:
    reply = rendered("light & dark < grey", 3.4, 10, answer)
    mine = parse(reply)
    served = FORMATS["editthinker"].bind().parse(Reply(reply))
    assert mine == ParsedReply("light & dark < grey", 3.5, 10, answer)
    assert isinstance(served, Critique)
    assert (served.semantic, served.quality, served.refined_instruction or "") == (3.5, 10, answer)
