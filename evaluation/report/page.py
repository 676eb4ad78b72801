"""The report as one HTML page without scripts: the verdict first, then each benchmark with its groups, pictures and costs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Final

from PIL import Image

from editthinker.report.markup import escape
from evaluation.items import Dataset, DatasetError, Item, PictureFile, PictureSource, decoded
from evaluation.report import charts, document
from evaluation.report.charts import bounds, signed
from evaluation.report.model import Comparison, Cost, Line, Report, Section

_BENCHMARKS: Final = {
    "imgedit": "ImgEdit-Bench",
    "gedit": "GEdit-Bench v1",
    "risebench": "RISEBench",
    "krisbench": "KRIS-Bench",
    "own": "Own pictures",
}
_SHOWN: Final = 4
"""Items of a contact sheet at either end."""
_THUMBNAIL: Final = 288
"""Pixels of a thumbnail's longer side, for screens of two pixels a point."""
_LONGEST: Final = 400
"""Letters of an instruction over its pictures."""
_LEAST_REACH: Final = 0.05


def render(report: Report, datasets: Sequence[Dataset]) -> str:
    """The page of a report."""
    items = {dataset.name: {item.id: item for item in dataset.items} for dataset in datasets}
    shown: set[str] = set()
    parts = []
    for section in report.sections:
        # The pictures are the same for every judge: they are shown once.
        sheet = "" if section.dataset in shown else _sheet(report, section, items[section.dataset])
        shown.add(section.dataset)
        parts.append(_section(report, section, sheet))
    sections = "".join(parts) or "<p>Nothing was scored yet.</p>"
    content = f"{_verdicts(report)}{sections}\n<footer>{_footer(report)}</footer>\n"
    return document.page(report.folder, _title(report), _lead(report), content)


def _compared(report: Report) -> list[tuple[Section, Comparison]]:
    return [(section, each) for section in report.sections for each in section.comparisons]


def _deciding(report: Report) -> list[tuple[Section, Comparison]]:
    """Those by judges that were asked; by the sessions' own judge where there is no other for the dataset."""
    asked = {section.dataset for section in report.sections if section.official}
    return [(section, each) for section, each in _compared(report) if section.official or section.dataset not in asked]


def _title(report: Report) -> str:
    kinds = [charts.verdict(each.difference) for _, each in _deciding(report)]
    if not kinds:
        return f"Results of {report.arms[0]}"
    others = report.arms[1:]
    who = others[0] if len(others) == 1 else f"{len(others)} arms"
    better, worse = kinds.count("better"), kinds.count("worse")
    if better == len(kinds):
        return f"{who} paid everywhere" if len(kinds) > 1 else f"{who} paid"
    if worse == len(kinds):
        return f"{who} did harm everywhere" if len(kinds) > 1 else f"{who} did harm"
    if not better and not worse:
        return f"{who}: no sure difference"
    parts = [f"{word} in {count}" for count, word in ((better, "paid"), (worse, "did harm")) if count]
    return f"{who} {', '.join(parts)} of {len(kinds)} comparisons"


def _lead(report: Report) -> str:
    compared = _deciding(report)
    if not compared:
        return "One arm was run. Add a second one to compare: the same command with another strategy, in the same folder."
    words = [f"Compared with <b>{escape(report.baseline)}</b>, item by item; intervals are of 95 % over items."]
    costs = [(each.cost, each.baseline_cost) for _, each in compared if each.cost and each.baseline_cost]
    if costs and len(report.arms) == 2:  # noqa: PLR2004 - the baseline and one other
        ours, theirs = (sum(cost.edits * cost.items for cost in side) for side in zip(*costs, strict=True))
        items = sum(cost.items for cost, _ in costs)
        words.append(f"It took <b>{ours / items:.1f} edits an\u00a0item</b> instead of {theirs / items:.1f}.")
    if not any(section.official for section, _ in compared):
        words.append("The judge that steered the edits scored them, so ask another one: <code>editthinker eval score</code>.")
    return " ".join(words)


def _verdicts(report: Report) -> str:
    deciding = _deciding(report)
    if not deciding:
        return ""
    reach = max(_LEAST_REACH, *(_reach(section, each) for section, each in deciding))
    cards = "".join(_card(section, each, reach, several=len(report.arms) > 2) for section, each in deciding)  # noqa: PLR2004 - as above
    legend = '<p class="legend"><span>\u2190 worse</span><span>no change</span><span>better \u2192</span></p>'
    return f'<section class="verdicts" aria-label="Verdicts">{cards}</section>\n{legend}\n'


def _reach(section: Section, each: Comparison) -> float:
    ends = [each.difference.change.value, each.difference.change.low or 0, each.difference.change.high or 0]
    return max(map(abs, ends)) / (section.scale[1] - section.scale[0])


def _card(section: Section, each: Comparison, reach: float, *, several: bool) -> str:
    found = each.difference
    kind = charts.verdict(found)
    words = {"better": "better", "worse": "worse", "even": "not sure"}[kind]
    after = found.baseline + found.change.value
    arm = f" <small>{escape(each.arm)}</small>" if several else ""
    judge = "its own judge" if not section.official else escape(section.judge)
    return (
        f'<a class="card {kind}" href="#{_anchor(section)}"><h2>{_name(section)}{arm}</h2>'
        f'<p class="big"><b>{signed(found.change.value)}</b> <span>{words}</span></p>'
        f"{charts.change(found, section.scale, reach)}"
        f"<p>{found.baseline:.2f} \u2192 {after:.2f} <small>of {section.scale[1]:g}, by {judge}</small></p>"
        f'<p class="cost">{_cost_words(each)}</p></a>'
    )


def _cost_words(each: Comparison) -> str:
    """What the gain cost."""
    ours, theirs = each.cost, each.baseline_cost
    if ours is None or theirs is None:
        return ""
    parts = [f"{ours.edits / theirs.edits:.1f} \u00d7 the edits" if theirs.edits else f"{ours.edits:.1f} edits"]
    if ours.wall_seconds is not None and theirs.wall_seconds is not None:
        parts.append(f"{_seconds(ours.wall_seconds)} instead of {_seconds(theirs.wall_seconds)} an\u00a0item")
    return ", ".join(parts)


def _name(section: Section) -> str:
    return escape(_BENCHMARKS.get(section.dataset, section.dataset))


def _anchor(section: Section) -> str:
    judge = "".join(letter if letter.isalnum() else "-" for letter in section.judge)
    return f"{section.dataset}-{judge}"


def _section(report: Report, section: Section, sheet: str) -> str:
    judge = "the sessions' own judge" if not section.official else f"judge {escape(section.judge)}"
    notes = "".join(f"<li>{_with_code(note)}</li>" for note in section.notes)
    pin = f" <small>Aggregated as {escape(section.pin)}.</small>" if section.pin else ""
    body = (
        f"<p>{escape(section.title[:1].upper() + section.title[1:])}.{pin}</p>\n{_table(section)}{_where(report, section)}{sheet}"
    )
    body += f'<ul class="notes">{notes}</ul>\n' if notes else ""
    heading = f"<h2>{_name(section)} <small>{judge}</small></h2>"
    asked = {each.dataset for each in report.sections if each.official}
    if not section.official and section.dataset in asked:
        # Another judge has said what counts: this one is there for who looks for it.
        body = f"<details><summary>{heading}</summary>\n{body}</details>\n"
    else:
        body = f"{heading}\n{body}"
    return f'<section class="benchmark" id="{_anchor(section)}">\n{body}</section>\n'


def _with_code(note: str) -> str:
    """A note in HTML, with the commands that it names in backticks set as such."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(note))


_HEAD: Final = (
    "<tr><th>Arm</th><th>Score</th><th>Change</th><th>Better / as good / worse</th><th>Edits</th><th>Time</th><th>Editor</th>"
    "<th>Thinker</th><th>Tokens</th><th>Items</th><th>95 %</th></tr>"
)


def _table(section: Section) -> str:
    compared = {each.arm: each for each in section.comparisons}
    rows = "".join(_table_row(line, compared.get(line.arm)) for line in section.lines)
    table = document.scrolling("Scores and costs", f"<table><thead>{_HEAD}</thead><tbody>{rows}</tbody></table>")
    return f'{table}<p class="caption">Edits, seconds and tokens are means for an item; the time is the median.</p>\n'


def _table_row(line: Line, compared: Comparison | None) -> str:
    found = line.interval
    value = "\u2013" if found is None else f"{found.value:.2f}"
    span = "" if found is None or found.low is None else f"{found.low:.2f} to {found.high:.2f}"
    change = pairs = ""
    if compared is not None:
        each = compared.difference
        change = f'<b class="{charts.verdict(each)}">{signed(each.change.value)}</b><small>{bounds(each)}</small>'
        pairs = f"{charts.pairs(each)}<small>{each.wins} / {each.ties} / {each.losses}</small>"
    cells = [f"<b>{value}</b>", change, pairs, *_cost_cells(line.cost), str(line.scored), span]
    return f'<tr><th scope="row">{escape(line.arm)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _cost_cells(cost: Cost | None) -> list[str]:
    if cost is None:
        return [""] * 5
    wall = "" if cost.wall_seconds is None else _seconds(cost.wall_seconds)
    return [f"{cost.edits:.2f}", wall, _seconds(cost.editor_seconds), _seconds(cost.thinker_seconds), f"{cost.tokens:,.0f}"]


def _seconds(value: float) -> str:
    digits = 2 if value < 1 else 1 if value < 100 else 0  # noqa: PLR2004 - three digits at most
    return f"{value:.{digits}f}\u00a0s"


def _where(report: Report, section: Section) -> str:
    """The groups, the largest gain first."""
    if not section.comparisons or len(section.groups) < 2:  # noqa: PLR2004 - one group is the whole
        return ""
    arm = section.comparisons[0].arm
    known = {name: values for name, values in section.groups.items() if arm in values and report.baseline in values}
    gains = {name: values[arm] - values[report.baseline] for name, values in known.items()}
    most = max((abs(gain) for gain in gains.values()), default=0.0)
    rows = "".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td>{known[name][report.baseline]:.2f}</td>'
        f'<td>{known[name][arm]:.2f}</td><td class="bar">{charts.group_bar(gain, most)}</td><td>{signed(gain)}</td></tr>'
        for name, gain in sorted(gains.items(), key=lambda each: -each[1])
    )
    names = f"<th>{escape(report.baseline)}</th><th>{escape(arm)}</th>"
    head = f'<tr><th>Group</th>{names}<th><span class="hidden">Bar</span></th><th>Change</th></tr>'
    table = f'<table class="groups"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f"<h3>Where</h3>\n{document.scrolling('Groups', table)}"


def _sheet(report: Report, section: Section, items: Mapping[str, Item]) -> str:
    """Pictures of the largest gains and losses."""
    if not section.comparisons:
        chosen = [(list(section.values)[: 2 * _SHOWN], "Some results")]
    else:
        gains = section.comparisons[0].gains
        ordered = sorted(gains, key=lambda item: (-gains[item], item))
        up = [item for item in ordered if gains[item] > 0][:_SHOWN]
        down = [item for item in reversed(ordered) if gains[item] < 0][:_SHOWN]
        chosen = [(up, "Largest gains"), (down, "Largest losses")]
    rows = {(row.arm, row.item): row for row in report.rows if row.dataset == section.dataset}
    made = []
    for names, title in chosen:
        figures = []
        for name in names:
            outputs = {arm: rows[arm, name].output for arm in report.arms if (arm, name) in rows}
            figures.append(_figures(report, section, items[name], outputs))
        if figures:
            made.append(f'<h3>{title}</h3>\n<div class="sheet">{"".join(figures)}</div>\n')
    return "".join(made)


def _figures(report: Report, section: Section, item: Item, outputs: Mapping[str, str | None]) -> str:
    parts = [_figure(item.sources[0], "source", "")]
    for arm, output in outputs.items():
        value = section.values.get(item.id, {}).get(arm)
        if output is not None:
            parts.append(_figure(PictureFile(report.folder / output), arm, "" if value is None else f"{value:.2f}"))
    words = item.instruction if len(item.instruction) <= _LONGEST else f"{item.instruction[:_LONGEST]}\u2026"
    return f"<article><p>{escape(words)} <small>{escape(item.id)}</small></p><div>{''.join(parts)}</div></article>"


def _figure(source: PictureSource, name: str, value: str) -> str:
    try:
        with decoded(source) as picture:
            small = picture.convert("RGB")
    except DatasetError:
        # What was made since is gone; the scores are still there.
        small = Image.new("RGB", (16, 16), "#888")
        name = f"{name}: cannot be read"
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=75)
    url = f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
    size = f'width="{small.width}" height="{small.height}"'
    said = f" <b>{value}</b>" if value else ""
    named = f'<span title="{escape(name)}">{escape(name)}</span>'
    return f'<figure><img src="{url}" alt="" {size}><figcaption>{named}{said}</figcaption></figure>'


def _footer(report: Report) -> str:
    reused = sum(row.reused for row in report.rows)
    edits, seconds = sum(row.edits for row in report.rows), sum(row.editor_seconds for row in report.rows)
    tokens = sum(row.prompt_tokens + row.completion_tokens for row in report.rows)
    words = f"{len(report.rows)} results of {', '.join(report.arms)}"
    words += f": {edits:,} edits, {seconds:,.0f} editor seconds, {tokens:,} tokens"
    more = f"; {reused} sessions were there before" if reused else ""
    return escape(f"{words}{more}.")
