"""The reasoning of a critique: two to five sentences with the figures behind the scores."""

from __future__ import annotations

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.score import Damage, Part, followed_share, remaining

_QUOTE = 80


def explain(evidence: Evidence, parts: list[Part], damage: list[Damage]) -> str:
    """The sentences of the reasoning: what was measured, what cannot be judged, what is damaged."""
    intent = evidence.intent
    sentences: list[str] = []
    if not intent.understood:
        named = _quoted(intent.unknown) or "the instruction"
        sentences.append(f"I measure pictures and cannot judge {named}, so this is not counted as done.")
        sentences.append(f"The candidate differs from the source by {evidence.comparison.change:.1f} in CIELAB.")
        return " ".join([*sentences, *_damaged(damage)])
    if intent.look is not None or intent.stated:
        sentences.append(adjustments_sentence(evidence))
    if evidence.findings:
        sentences.append("Checked one by one: " + "; ".join(f"{f.op.name}, {f.description}" for f in evidence.findings[:6]) + ".")
    if not parts:
        sentences.append("The source already looks like that.")
    if intent.unknown:
        sentences.append(f"I cannot judge {_quoted(intent.unknown)}, which limits the score.")
    return " ".join([*sentences, *_damaged(damage)])


def adjustments_sentence(evidence: Evidence) -> str:
    """How far light and colour have moved towards the target."""
    return _look_sentence(evidence) if evidence.intent.look is not None else _stated_sentence(evidence)


def _quoted(clauses: tuple[str, ...]) -> str:
    return ", ".join(f'"{clause[:_QUOTE]}"' for clause in clauses[:3])


def _damaged(damage: list[Damage]) -> list[str]:
    if not damage:
        return ["No damage was measured."]
    worst = sorted(damage, key=lambda item: -item.points)[:3]
    return ["Damage: " + "; ".join(item.description for item in worst) + "."]


def _look_sentence(evidence: Evidence) -> str:
    """The four figures furthest from the target: measured change against wanted change."""
    start, target, now = evidence.target.start, evidence.target.tone, evidence.tone
    rows = [
        ("mean lightness L*", float(now.mean[0] - start.mean[0]), float(target.mean[0] - start.mean[0])),
        ("warmth b*", float(now.mean[2] - start.mean[2]), float(target.mean[2] - start.mean[2])),
        ("tint a*", float(now.mean[1] - start.mean[1]), float(target.mean[1] - start.mean[1])),
        ("contrast", now.contrast - start.contrast, target.contrast - start.contrast),
        ("black point L*", float(now.zones[0, 0] - start.zones[0, 0]), float(target.zones[0, 0] - start.zones[0, 0])),
        ("white point L*", float(now.zones[4, 0] - start.zones[4, 0]), float(target.zones[4, 0] - start.zones[4, 0])),
        ("colourfulness", now.spread - start.spread, target.spread - start.spread),
        ("corners L*", now.corner - start.corner, target.corner - start.corner),
    ]
    if evidence.grain_wanted:
        rows.append(("grain L*", evidence.grain_added, evidence.grain_wanted))
    rows.sort(key=lambda row: -abs(row[2] - row[1]) - 0.3 * abs(row[2]))
    figures = ", ".join(f"{name} {got:+.1f} of {wanted:+.1f} wanted" for name, got, wanted in rows[:4])
    names = " and ".join(evidence.intent.names[:4])
    if evidence.intent.plain:
        # Plain adjustments are scored with a wide tolerance, and the distance from the target would contradict that score.
        return f"The plain adjustment {names} is followed to {100 * followed_share(evidence):.0f}%: {figures}."
    done = 100 * max(-1.0, 1.0 - remaining(evidence))
    return f"For {names} the candidate is {done:.0f}% of the way from the source: {figures}."


def _stated_sentence(evidence: Evidence) -> str:
    start = evidence.target.start.mean
    target, now = evidence.target.tone.mean - start, evidence.tone.mean - start
    return (
        f"The stated amounts should move L* by {target[0]:+.1f}, a* by {target[1]:+.1f} and b* by {target[2]:+.1f}; "
        f"measured {now[0]:+.1f}, {now[1]:+.1f} and {now[2]:+.1f}."
    )
