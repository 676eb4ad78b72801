"""How two judges agree, whether a judge prefers the first picture, and whether it says the same twice. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, pstdev

from evaluation.statistics import kendall, pearson, spearman

_BINS = 6


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges over the pictures that both scored.

    Attributes:
        difference: the mean of the absolute differences of their scores.
        pairs: pairs of pictures of one item that both put in an order.
        same_order: of these the share that they order in the same way; None without pairs.
        bins: of the first judge's scores the mean, of the second's the mean, and how many pictures, in order.
    """

    pictures: int
    spearman: float | None
    kendall: float | None
    pearson: float | None
    difference: float | None
    pairs: int
    same_order: float | None
    bins: Sequence[tuple[float, float, int]]


def agreement(first: Mapping[str, float], second: Mapping[str, float], items: Mapping[str, str]) -> Agreement:
    """How two judges' scores agree.

    Args:
        first, second: scores by picture.
        items: the item of each picture.
    """
    both = sorted(set(first) & set(second))
    one, other = [first[name] for name in both], [second[name] for name in both]
    ordered = [
        (first[a] - first[b]) * (second[a] - second[b]) > 0
        for a, b in combinations(both, 2)
        if items[a] == items[b] and first[a] != first[b] and second[a] != second[b]
    ]
    return Agreement(
        len(both),
        spearman(one, other),
        kendall(one, other),
        pearson(one, other),
        fmean(abs(x - y) for x, y in zip(one, other, strict=True)) if both else None,
        len(ordered),
        fmean(ordered) if ordered else None,
        calibration(one, other),
    )


def calibration(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, float, int]]:
    """Means of both in bins of about as many pictures each, by the first; equal scores share a bin."""
    pairs = sorted(zip(first, second, strict=True))
    size = max(1, -(-len(pairs) // _BINS))
    bins: list[list[tuple[float, float]]] = []
    for pair in pairs:
        if bins and (len(bins[-1]) < size or bins[-1][-1][0] == pair[0]):
            bins[-1].append(pair)
        else:
            bins.append([pair])
    return [(fmean(x for x, _ in each), fmean(y for _, y in each), len(each)) for each in bins]


@dataclass(frozen=True, slots=True)
class Positions:
    """A judge that was shown pairs in both orders.

    Attributes:
        pairs: with a reply in both orders.
        flipped: the share whose winner depends on the order: for a judge without a bias, ties aside, it is near 0.
        first: of the replies that name a winner, the share that names the picture shown first; 0.5 without a bias.
    """

    pairs: int
    flipped: float | None
    first: float | None


def positions(replies: Sequence[tuple[str | None, str | None]]) -> Positions:
    """The bias for a position.

    Args:
        replies: of each pair who won as it was shown (``A`` is the first, or ``tie``), and in the other order, where ``A`` is the
            other picture.
    """
    known = [(one, other) for one, other in replies if one is not None and other is not None]
    flipped = [one == other and one != "tie" for one, other in known]
    named = [said == "A" for pair in replies for said in pair if said in {"A", "B"}]
    return Positions(len(known), fmean(flipped) if flipped else None, fmean(named) if named else None)


def winner(shown: str | None, turned: str | None) -> str | None:
    """Who won in both orders: ``A``, ``B``, or ``tie`` where the orders disagree; None where one is missing."""
    if shown is None or turned is None:
        return None
    other = {"A": "B", "B": "A", "tie": "tie"}[turned]
    return shown if shown == other else "tie"


def spread(repeats: Sequence[Sequence[float]]) -> float | None:
    """The mean standard deviation of a judge's scores of the same picture; None where none was scored twice."""
    found = [pstdev(scores) for scores in repeats if len(scores) > 1]
    return fmean(found) if found else None


@dataclass(frozen=True, slots=True)
class People:
    """A judge against people's votes.

    Attributes:
        votes: that name a winner, and on which the judge said something.
        agreed: the share of these on which it names the same picture; a judge's tie counts half.
        ties: the share on which the judge saw a tie.
    """

    votes: int
    agreed: float | None
    ties: float | None


def people(choices: Sequence[tuple[str, str | None]]) -> People:
    """How a judge agrees with people.

    Args:
        choices: of each vote a person's choice (``a`` or ``b``), and the judge's (``a``, ``b``, ``tie``, or None).
    """
    known = [(person, judge) for person, judge in choices if person in {"a", "b"} and judge is not None]
    points = [0.5 if judge == "tie" else float(judge == person) for person, judge in known]
    ties = [judge == "tie" for _, judge in known]
    return People(len(known), fmean(points) if points else None, fmean(ties) if ties else None)
