"""What a comparison of judges found, as one HTML page, as JSON, and as a few lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final

from editthinker.report.markup import escape
from editthinker.report.page import asset, policy
from evaluation.comparing.measures import Agreement
from evaluation.comparing.work import Comparing, Findings
from evaluation.report.charts import calibration

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Judges side by side</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">EditThinker evaluation <code>{name}</code></p>
<h1>Judges side by side</h1>
<p class="lead">{lead}</p>
</header>
{judges}
<div class="plots">{agreements}</div>
</main>
</body>
</html>
"""
_HEAD: Final = (
    "<tr><th>Judge</th><th>Pictures scored</th><th>Agrees with people, scores</th><th>Agrees with people, pairs</th>"
    "<th>Names the first of a pair</th><th>Winner turns with the order</th><th>Spread of its own scores</th></tr>"
)


def render(comparing: Comparing, findings: Findings) -> str:
    """The page."""
    style = asset("tokens.css") + files("evaluation.report").joinpath("style.css").read_text("utf-8")
    pictures, pairs = len(comparing.every()), len(comparing.pairings())
    votes = f" and {len(comparing.votes)} votes of people" if comparing.votes else ""
    return _PAGE.format(
        policy=policy(style),
        style=style,
        name=escape(comparing.folder.name),
        lead=f"<b>{pictures} pictures</b>, {pairs} pairs in both orders{votes}. Nothing was edited for this.",
        judges=_judges(findings),
        agreements="".join(_agreement(names, each) for names, each in findings.agreements.items()),
    )


def _judges(findings: Findings) -> str:
    rows = []
    for name, scores in findings.scores.items():
        cells = [str(len(scores)), *(_share(value) for value in _shares(findings, name)), _number(findings.spreads.get(name))]
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    caption = (
        "<caption>A judge without a bias for a position names the first of a pair in 50 %, and its winner does not turn with the "
        "order. The spread is the standard deviation of repeated scores, of 10.</caption>"
    )
    table = f"<table>{caption}<thead>{_HEAD}</thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        '<section class="benchmark"><h2>Each judge</h2>'
        f'<div class="wide" tabindex="0" role="group" aria-label="Each judge">{table}</div></section>'
    )


def _shares(findings: Findings, name: str) -> Sequence[float | None]:
    people, pairs, places = findings.people.get(name), findings.pair_people.get(name), findings.positions.get(name)
    return (
        people.agreed if people else None,
        pairs.agreed if pairs else None,
        places.first if places else None,
        places.flipped if places else None,
    )


def _agreement(names: tuple[str, str], found: Agreement) -> str:
    first, second = names
    numbers = (
        f"<p>Spearman <b>{_number(found.spearman)}</b>, Kendall {_number(found.kendall)}, mean difference "
        f"{_number(found.difference)} of 10, over {found.pictures} pictures.</p>"
        f"<p>Of {found.pairs} pairs of one item that both order, <b>{_share(found.same_order)}</b> in the same way.</p>"
    )
    plot = calibration(found.bins, (first, second), (0.0, 10.0)) if found.bins else ""
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
        by_scores, by_pairs, first_share, flipped = (_share(value) for value in _shares(findings, name))
        told = f"names the first of a pair in {first_share}, turns with the order in {flipped}"
        told += f", agrees with people in {by_scores} by scores and {by_pairs} by pairs" if name in findings.people else ""
        lines.append(f"{name}: {told}, spread {_number(findings.spreads.get(name))}")
    return "".join(f"{line}\n" for line in lines)
