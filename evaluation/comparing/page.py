"""What a comparison of judges found, as one HTML page, as JSON, and as a few lines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from editthinker.report.markup import escape
from evaluation.comparing.measures import Agreement
from evaluation.comparing.work import Comparing, Findings
from evaluation.report import document
from evaluation.report.charts import calibration
from evaluation.scoring.work import SERVER


def render(comparing: Comparing, findings: Findings) -> str:
    """The page."""
    pictures, pairs = len(comparing.every()), len(comparing.pairings())
    votes = f" and {len(comparing.votes)} votes of people" if comparing.votes else ""
    lead = f"<b>{pictures} pictures</b>, {pairs} pairs in both orders{votes}. Nothing was edited for this."
    agreements = "".join(_agreement(names, each) for names, each in findings.agreements.items())
    content = f'{_judges(findings)}\n<div class="plots">{agreements}</div>\n'
    return document.page(comparing.folder, "Judges side by side", lead, content)


def _judges(findings: Findings) -> str:
    shown = [each for each in _SHARES if findings.people or not each.startswith("Agrees")]
    head = "".join(f"<th>{name}</th>" for name in ("Judge", "Pictures scored", *shown, "Spread of its own scores"))
    rows = []
    for name, scores in findings.scores.items():
        shares = _shares(findings, name)
        cells = [str(len(scores)), *(_share(shares[each]) for each in shown), _number(findings.spreads.get(name))]
        whose = " <small>the sessions' own judge</small>" if name == SERVER else ""
        rows.append(f'<tr><th scope="row">{escape(name)}{whose}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    table = f'<table class="judges"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    caption = (
        "A judge without a bias for a position names the first of a pair in 50\u00a0%, and its winner does not turn with the "
        "order. The spread is the standard deviation of repeated scores, of 10."
    )
    told = f'{document.scrolling("Each judge", table)}<p class="caption">{caption}</p>'
    return f'<section class="benchmark"><h2>Each judge</h2>\n{told}</section>'


_SHARES: Final = (
    "Agrees with people, scores",
    "Agrees with people, pairs",
    "Names the first of a pair",
    "Winner turns with the order",
)
"""Columns of a judge, as they are headed."""


def _shares(findings: Findings, name: str) -> dict[str, float | None]:
    people, pairs, places = findings.people.get(name), findings.pair_people.get(name), findings.positions.get(name)
    found = (
        people.agreed if people else None,
        pairs.agreed if pairs else None,
        places.first if places else None,
        places.flipped if places else None,
    )
    return dict(zip(_SHARES, found, strict=True))


def _agreement(names: tuple[str, str], found: Agreement) -> str:
    first, second = names
    numbers = (
        f"<p>Spearman <b>{_number(found.spearman)}</b>, Kendall {_number(found.kendall)}, mean difference "
        f"{_number(found.difference)} of 10, over {found.pictures} pictures.</p>"
        f"<p>Of {found.pairs} pairs of one item that both order, <b>{_share(found.same_order)}</b> in the same way.</p>"
    )
    plot = ""
    if found.bins:
        caption = "A dot is the mean of pictures that the first scores about alike. On the dashed line both say the same."
        plot = f'{calibration(found.bins, (first, second), (0.0, 10.0))}<p class="caption">{caption}</p>'
    return f'<section class="benchmark"><h2>{escape(first)} <small>and</small> {escape(second)}</h2>{numbers}{plot}</section>'


def _share(value: float | None) -> str:
    return "\u2013" if value is None else f"{100 * value:.0f} %"


def _number(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}".replace("-", "\u2212")


def as_json(comparing: Comparing, findings: Findings) -> str:
    """The numbers as JSON."""
    whole: dict[str, Any] = {
        "pictures": len(comparing.every()),
        "pairs": len(comparing.pairings()),
        "votes": len(comparing.votes),
    }
    whole["judges"] = {
        name: {
            "scored": len(scores),
            "unread": findings.unread.get(name, 0),
            "spread": findings.spreads.get(name),
            **{
                key: asdict(found[name])
                for key, found in (
                    ("positions", findings.positions),
                    ("people_by_scores", findings.people),
                    ("people_by_pairs", findings.pair_people),
                )
                if name in found
            },
        }
        for name, scores in findings.scores.items()
    }
    whole["agreements"] = [{"judges": list(names), **asdict(each)} for names, each in findings.agreements.items()]
    whole["failures"] = findings.failures
    return json.dumps(whole, ensure_ascii=False, indent=2)


def as_text(findings: Findings) -> str:
    """A few lines for a terminal."""
    lines = []
    for (first, second), each in findings.agreements.items():
        numbers = f"Spearman {_number(each.spearman)}, Kendall {_number(each.kendall)}, same order {_share(each.same_order)}"
        lines.append(f"{first} and {second}: {numbers}, over {each.pictures} pictures")
    for name in findings.positions:
        by_scores, by_pairs, first_share, flipped = (_share(value) for value in _shares(findings, name).values())
        told = f"names the first of a pair in {first_share}, turns with the order in {flipped}"
        told += f", agrees with people in {by_scores} by scores and {by_pairs} by pairs" if name in findings.people else ""
        lines.append(f"{name}: {told}, spread {_number(findings.spreads.get(name))}")
    return "".join(f"{line}\n" for line in lines)
