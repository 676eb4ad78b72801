"""The reasoning in words: two to five plain sentences with the figures behind the scores."""

from __future__ import annotations

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.score import Damage, Part, remaining

_QUOTE = 80


def explain(evidence: Evidence, parts: list[Part], damage: list[Damage]) -> str:
    """Say what was wanted, what was measured, what is missing and what is damaged."""
    intent = evidence.intent
    said: list[str] = []
    if not intent.understood:
        named = _quoted(intent.unknown) or "the instruction"
        said.append(f"I measure pictures and cannot judge {named}, so this is not counted as done.")
        said.append(f"The candidate differs from the source by {evidence.comparison.change:.1f} in CIELAB.")
        return " ".join([*said, *_damaged(damage)])
    if intent.look is not None or intent.stated:
        said.append(way_sentence(evidence))
    if evidence.findings:
        said.append("Checked one by one: " + "; ".join(f"{f.op.name}, {f.said}" for f in evidence.findings[:6]) + ".")
    if not parts:
        said.append("The source already looks like that.")
    if intent.unknown:
        said.append(f"I cannot judge {_quoted(intent.unknown)}, which limits the score.")
    return " ".join([*said, *_damaged(damage)])


def way_sentence(evidence: Evidence) -> str:
    """How far light and colour have come on the way to what was wanted."""
    return _look_sentence(evidence) if evidence.intent.look is not None else _stated_sentence(evidence)


def _quoted(clauses: tuple[str, ...]) -> str:
    return ", ".join(f'"{clause[:_QUOTE]}"' for clause in clauses[:3])


def _damaged(damage: list[Damage]) -> list[str]:
    if not damage:
        return ["No damage was measured."]
    worst = sorted(damage, key=lambda item: -item.points)[:3]
    return ["Damage: " + "; ".join(item.said for item in worst) + "."]


def _look_sentence(evidence: Evidence) -> str:
    """The figures furthest from the target, as measured change against wanted change."""
    start, goal, now = evidence.target.start, evidence.target.tone, evidence.tone
    rows = [
        ("mean lightness L*", float(now.mean[0] - start.mean[0]), float(goal.mean[0] - start.mean[0])),
        ("warmth b*", float(now.mean[2] - start.mean[2]), float(goal.mean[2] - start.mean[2])),
        ("tint a*", float(now.mean[1] - start.mean[1]), float(goal.mean[1] - start.mean[1])),
        ("contrast", now.contrast - start.contrast, goal.contrast - start.contrast),
        ("black point L*", float(now.zones[0, 0] - start.zones[0, 0]), float(goal.zones[0, 0] - start.zones[0, 0])),
        ("white point L*", float(now.zones[4, 0] - start.zones[4, 0]), float(goal.zones[4, 0] - start.zones[4, 0])),
        ("colourfulness", now.spread - start.spread, goal.spread - start.spread),
        ("corners L*", now.corner - start.corner, goal.corner - start.corner),
    ]
    if evidence.grain_wanted:
        rows.append(("grain L*", evidence.grain_added, evidence.grain_wanted))
    rows.sort(key=lambda row: -abs(row[2] - row[1]) - 0.3 * abs(row[2]))
    figures = ", ".join(f"{name} {got:+.1f} of {wanted:+.1f} wanted" for name, got, wanted in rows[:4])
    done = 100 * max(-1.0, 1.0 - remaining(evidence))
    names = " and ".join(evidence.intent.names[:4])
    return f"For {names} the candidate is {done:.0f}% of the way from the source: {figures}."


def _stated_sentence(evidence: Evidence) -> str:
    start = evidence.target.start.mean
    goal, now = evidence.target.tone.mean - start, evidence.tone.mean - start
    return (
        f"The stated amounts should move L* by {goal[0]:+.1f}, a* by {goal[1]:+.1f} and b* by {goal[2]:+.1f}; "
        f"measured {now[0]:+.1f}, {now[1]:+.1f} and {now[2]:+.1f}."
    )
