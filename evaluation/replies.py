"""Reads judges' replies as the official scripts read them. Pure functions; what cannot be read is None, and never a guess.

The official VIEScore draws a random score for a reply that it cannot read a second time. Here such an item is counted as unread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_FIVE: Final = range(1, 6)
"""Scores of 1 to 5. The official scripts take a 9, too, where a judge writes one; here such a reply is unread."""
_MOST_DIGITS: Final = 3
"""Of a score: int() takes time with the square of the digits, and refuses more than 4,300."""


def imgedit(reply: str) -> list[int]:
    """The scores of the lines ``Name: 4``, in their order; a line of any other form has none.

    As ``step1_get_avgscore.py``: a line has exactly one ``": "``, and nothing but digits after it. Empty where one is not 1 to 5.
    """
    found = []
    for line in reply.splitlines():
        parts = line.strip().split(": ")
        if len(parts) == 2 and parts[1].isdecimal() and len(parts[1]) <= _MOST_DIGITS:  # noqa: PLR2004 - a pair
            found.append(int(parts[1]))
    return found if all(score in _FIVE for score in found) else []


def viescore(reply: str) -> list[float] | None:
    """The list ``score`` of VIEScore's JSON, each from 0 to 10; None where there is none.

    As ``mllm_output_to_dict``: between the delimiters, or from the first brace to the last one, or a bare list or number.
    """
    delimiter = "||V^=^V||"
    if reply.count(delimiter) == 2:  # noqa: PLR2004 - one on either side
        text = reply.split(delimiter)[1]
    else:
        start, end = reply.find("{"), reply.rfind("}") + 1
        if start == -1 or end == 0:
            return _bare_scores(reply)
        text = reply[start:end]
    value = _json(text.replace("\n", ""))
    scores = value.get("score") if isinstance(value, dict) else None
    if scores is None:
        # A quote within the reasoning breaks the JSON; the scores are still there.
        found = re.search(r"(?<![\w])[\"']?score[\"']?\s*:\s*(\[[\d\s.,]{1,40}\]|\d{1,2}(?:\.\d{1,4})?)", text)
        scores = _json(found[1]) if found else None
    return _in_range(scores if isinstance(scores, list) else [scores], 0, 10)


def _bare_scores(reply: str) -> list[float] | None:
    text = reply.strip()
    start, end = text.find("["), text.rfind("]") + 1
    if re.fullmatch(r"\[\d{1,2}, ?\d{1,2}\]", text[start:end]):
        return _in_range(_json(text[start:end]), 0, 10)
    return _in_range([_json(text)], 0, 10) if re.fullmatch(r"\d{1,2}", text) else None


def risebench(reply: str) -> list[int] | None:
    """The numbers after ``Final Score``, as ``extract`` of ``gpt_eval.py`` finds them; None without any."""
    for name in ("Final Score", "Final Scores"):
        for found in re.findall(rf"\*?\*?{name}\*?\*?:?\s*([\d*\s,\n]*)", reply, re.IGNORECASE):
            numbers = [number for number in re.findall(r"\d+", found) if len(number) <= _MOST_DIGITS]
            if numbers:
                return [int(number) for number in numbers]
    return None


_KRIS_NUMBERS: Final = (r"([1-5])\s*/\s*5", r"([1-5])\s+out\s+of\s+5", r"\b([1-5])\b")


def krisbench(reply: str, metric: str) -> int | None:
    """The score of a metric: ``<metric>_score`` of a flat JSON object, or of the text, or the first of ``n/5`` and the like."""
    name = f"{metric}_score"
    value = _flat_object(reply, name)
    if value is not None:
        return _whole(value.get(name))
    for pattern in (rf"{metric}[_\s]*score\s*[:\uff1a]?\s*([1-5])", *_KRIS_NUMBERS):
        if found := re.search(pattern, reply, re.IGNORECASE | re.DOTALL):
            return int(found[1])
    return None


def krisbench_pair(reply: str) -> tuple[int | None, int | None]:
    """The scores of instruction and knowledge, of the reply that has both."""
    value = _flat_object(reply, "instruction_score")
    if value is not None:
        return _whole(value.get("instruction_score")), _whole(value.get("knowledge_score"))
    names = ("instruction", "knowledge")
    found = [re.search(rf"{name}[_\s]*score\s*[:\uff1a]\s*([1-5])", reply, re.IGNORECASE) for name in names]
    first, second = (int(each[1]) if each else None for each in found)
    return first, second


def protocol(reply: str) -> tuple[float, float] | None:
    """The two scores, 0 to 10, of a judge that answers in EditThinker's form or in VIEScore's; None without both."""
    answer = reply.rpartition("</think>")[2]
    scores = viescore(answer)
    if scores is not None and len(scores) == 2:  # noqa: PLR2004 - semantic and quality
        return scores[0], scores[1]
    found = [re.search(rf"{name}\"?\s*[:=]\s*\"?(\d{{1,2}}(?:\.\d{{1,4}})?)", answer, re.IGNORECASE) for name in _PROTOCOL]
    values = [float(each[1]) for each in found if each]
    known = _in_range(values, 0, 10) if len(values) == len(_PROTOCOL) else None
    return (known[0], known[1]) if known else None


_PROTOCOL: Final = ("semantic", "quality")


def winner(reply: str) -> str | None:
    """``A``, ``B`` or ``tie`` of a judge that compared two pictures; None where it says neither."""
    answer = reply.rpartition("</think>")[2]
    start, end = answer.find("{"), answer.rfind("}") + 1
    value = _json(answer[start:end]) if start != -1 else None
    text = _last_line(answer)
    if isinstance(value, dict):
        text = next((str(value[name]) for name in ("winner", "better_response") if name in value), "")
    named = {each.lower() for each in re.findall(r"\b(A|B|tie)\b", text, re.IGNORECASE)}
    if named == {"tie"}:
        return "tie"
    return named.pop().upper() if len(named) == 1 else None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _flat_object(reply: str, name: str) -> Mapping[str, Any] | None:
    """The first object without objects in it that has the name, as the official regular expression finds it.

    That takes the square of the reply's length where a judge writes many open braces; this does not.
    """
    for part in reply.split("{")[1:]:
        text, closed, _ = part.partition("}")
        if closed and name in text:
            value = _json("{" + text + "}")
            return value if isinstance(value, dict) else None
    return None


def _whole(value: object) -> int | None:
    """A score of 1 to 5 as the official scripts convert it: 4.0 and "4" are 4."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        score = int(value) if not isinstance(value, str) or len(value) <= _MOST_DIGITS else None
    except (ValueError, OverflowError):
        return None
    return score if score in _FIVE else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _in_range(values: list[Any], low: float, high: float) -> list[float] | None:
    known = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return known if known and len(known) == len(values) and all(low <= value <= high for value in known) else None
