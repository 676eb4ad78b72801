"""Asks judges about pictures that exist already: each alone, more than once if wanted, and pairs in both orders.

The pictures are the results of a run: those of different arms for one item are pairs. People's votes add pairs: lines of
``GET /v1/preferences/export``, whose pictures are fetched from the server that has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from editthinker.cli import records, several
from editthinker.client import AsyncEditThinker, NotFoundError, Retries
from evaluation import replies, results
from evaluation.comparing import measures
from evaluation.items import Dataset, DatasetError, PictureSource
from evaluation.scoring.judge import Judge, QuestionError
from evaluation.scoring.prompts import load
from evaluation.scoring.questions import Shown, two_scores
from evaluation.scoring.work import SERVER, digest_of

JOURNAL: Final = "comparisons.jsonl"


class CompareError(ValueError):
    """Judges that cannot be compared."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to judge: an edit of an item's source.

    Attributes:
        name: unique in the comparison.
        item: names source and instruction, which pictures of a pair share.
        source, edited: read when they are shown: those of a benchmark do not fit into memory together.
        digest: of the edited picture.
    """

    name: str
    item: str
    instruction: str
    source: PictureSource
    edited: PictureSource
    digest: str
    server_score: float | None = None


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A picture that a server gave, in memory."""

    name: str
    data: bytes

    def read(self) -> bytes:
        """Its bytes."""
        return self.data


@dataclass(frozen=True, slots=True)
class Vote:
    """A person's choice between two pictures."""

    first: Picture
    second: Picture
    choice: str


@dataclass(frozen=True, slots=True)
class Comparing:
    """What is compared.

    Attributes:
        repeats: times that each picture is scored.
        pairs: whether pairs are shown as well, in both orders.
    """

    folder: Path
    pictures: Sequence[Picture]
    votes: Sequence[Vote] = ()
    repeats: int = 1
    pairs: bool = True
    jobs: int = 8

    def every(self) -> list[Picture]:
        """The pictures of the run and of the votes, each once."""
        voted = [picture for vote in self.votes for picture in (vote.first, vote.second)]
        return list({picture.name: picture for picture in [*self.pictures, *voted]}.values())

    def pairings(self) -> list[tuple[Picture, Picture]]:
        """Pairs of pictures of one item, those of the votes included."""
        if not self.pairs:
            return []
        by_item: dict[str, list[Picture]] = {}
        for picture in self.pictures:
            by_item.setdefault(picture.item, []).append(picture)
        made = [pair for members in by_item.values() for pair in combinations(members, 2) if pair[0].digest != pair[1].digest]
        return [*made, *((vote.first, vote.second) for vote in self.votes)]


@dataclass(slots=True)
class Findings:
    """What was found: numbers by judge, and by pair of judges."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    agreements: dict[tuple[str, str], measures.Agreement] = field(default_factory=dict)
    positions: dict[str, measures.Positions] = field(default_factory=dict)
    spreads: dict[str, float | None] = field(default_factory=dict)
    people: dict[str, measures.People] = field(default_factory=dict)
    pair_people: dict[str, measures.People] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def pictures_of(folder: Path, datasets: Sequence[Dataset], limit: int | None = None) -> list[Picture]:
    """The results of a run as pictures.

    Args:
        limit: items of each dataset.

    Raises:
        DatasetError: when one cannot be read.
    """
    rows = [row for row in results.read(folder) if row.answered]
    found = []
    for dataset in datasets:
        items = {item.id: item for item in dataset.items[:limit]}
        for row in rows:
            if row.dataset != dataset.name or row.item not in items or row.output is None:
                continue
            source, edited = items[row.item].sources[0], results.picture(folder, row)
            digest = digest_of(edited.read())
            found.append(Picture(row.task, f"{row.dataset}/{row.item}", row.instruction, source, edited, digest, row.overall))
    return found


_OPTIONS: Final = frozenset({"url", "model", "key_env"})


def parse_judges(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, Judge]:
    """Judges by name, of words such as ``NAME:url=…,model=…,key_env=VARIABLE``.

    Args:
        environment: has the API keys: other users of the machine can read a command's words.

    Raises:
        CompareError: for anything else, a name that occurs twice, or a variable that is not set.
        JudgeError: for a URL or key that cannot be used.
    """
    found: dict[str, Judge] = {}
    for words in given:
        name, judge = _judge(words, environment)
        if name in found:
            message = f"--judge {name}: two judges have this name; give one another name"
            raise CompareError(message)
        found[name] = judge
    return found


def _judge(words: str, environment: Mapping[str, str]) -> tuple[str, Judge]:
    name, colon, rest = words.partition(":")
    options = dict(pair.partition("=")[::2] for pair in rest.split(","))
    if "key" in options:
        # Not quoted: it would be in logs as well.
        message = f"--judge {name}: others can read a key that is on the command line; write key_env=VARIABLE, which has it"
        raise CompareError(message)
    if not colon or not name or name == SERVER or not {"url", "model"} <= set(options) <= _OPTIONS:
        message = f"--judge {words!r}: write NAME:url=URL,model=MODEL (and key_env=VARIABLE), where NAME is not {SERVER!r}"
        raise CompareError(message)
    variable = options.get("key_env")
    if variable is not None and not environment.get(variable):
        message = f"--judge {name}: the environment variable {variable!r} is not set; it should have the judge's API key"
        raise CompareError(message)
    return name, Judge(options["url"], options["model"], environment[variable] if variable else "")


def read_votes(path: Path, server: str | None, api_key: str | None) -> list[Vote]:
    """People's votes of a file, with their pictures from a server.

    Raises:
        CompareError: without a server, or for a file that is not an export.
        EditThinkerError: when the server refuses, or does not answer.
    """
    if not server:
        message = "the pictures of votes are on the server where people voted: name it with --server"
        raise CompareError(message)
    lines = records.read(path)
    if not lines:
        message = f"{path}: there are no votes; write what GET /v1/preferences/export gives"
        raise CompareError(message)
    found: list[Vote] = []

    async def fetch() -> None:
        async with several.client(server, api_key, Retries()) as client:
            found.extend(await votes_of(lines, client))

    several.run(fetch())
    return found


async def votes_of(lines: Sequence[Mapping[str, Any]], client: AsyncEditThinker) -> list[Vote]:
    """People's votes with their pictures, from the lines of the export. Those whose pictures are gone are left out."""
    found = []
    for line in lines:
        if line.get("choice") not in {"a", "b", "tie"}:
            continue
        try:
            source = await client.sessions.source(line["a"]["session_id"])
            first, second = [await _voted(client, line, side, source) for side in ("a", "b")]
        except (NotFoundError, LookupError, TypeError):
            # The session is deleted, or the line is not one of the export.
            continue
        found.append(Vote(first, second, line["choice"]))
    return found


async def _voted(client: AsyncEditThinker, line: Mapping[str, Any], side: str, source: bytes) -> Picture:
    ref = line[side]
    turn = ref.get("turn")
    data = source if turn is None else await client.sessions.image(ref["session_id"], turn, ref.get("candidate"))
    name, item = f"vote/{ref['sha256']}", f"vote/{line['source']}/{line['instruction']}"
    return Picture(name, item, line["instruction"], _Fetched("source", source), _Fetched(side, data), digest_of(data))


def carry_out(comparing: Comparing, judges: Mapping[str, Judge]) -> Findings:
    """Ask what was not answered yet, and measure.

    Raises:
        CompareError: when there is nothing to judge.
        JudgeError: when a judge does not answer.
        KeyboardInterrupt: for Ctrl-C and SIGTERM. The answered questions are kept.
    """
    if not comparing.every():
        message = f"{comparing.folder} has no results; run `editthinker eval run` first"
        raise CompareError(message)
    with records.Journal(comparing.folder / JOURNAL) as kept:
        work = _Work(comparing, kept)
        several.run(work.go(judges))
    return work.findings(list(judges))


class _Work:
    def __init__(self, comparing: Comparing, kept: records.Journal) -> None:
        self._comparing = comparing
        self._journal = kept
        self._said = {str(record.get("key")): str(record.get("reply")) for record in kept.records}
        self._prompts = load("own", None)
        self._failures: list[str] = []

    async def go(self, judges: Mapping[str, Judge]) -> None:
        """Ask every judge every question, several at a time."""
        async with asyncio.TaskGroup() as group:
            for name, judge in judges.items():
                group.create_task(self._judge(name, judge))

    async def _judge(self, name: str, judge: Judge) -> None:
        waiting = self._questions(name, judge)

        async def work() -> None:
            for ask in waiting:
                await ask()

        async with judge, asyncio.TaskGroup() as group:
            for _ in range(self._comparing.jobs):
                group.create_task(work())

    def _questions(self, name: str, judge: Judge) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
        for picture in self._comparing.every():
            text = self._prompts.text("scores", instruct=picture.instruction)
            for repeat in range(self._comparing.repeats):
                shown = (picture.source, picture.edited)
                yield self._asking(judge, _alone(name, picture, repeat), text, shown, repeat)
        for pair in self._comparing.pairings():
            for one, other in (pair, pair[::-1]):
                text = self._prompts.text("pair", instruct=one.instruction)
                yield self._asking(judge, _pair(name, one, other), text, (one.source, one.edited, other.edited), 0)

    def _asking(
        self, judge: Judge, key: str, text: str, pictures: Sequence[PictureSource], repeat: int
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        async def ask() -> None:
            if key in self._said:
                return
            try:
                shown = [Shown(await asyncio.to_thread(picture.read)) for picture in pictures]
                answer = await judge.ask(text, shown, seed=repeat)
            except (QuestionError, DatasetError) as exc:
                self._failures.append(str(exc))
                return
            self._journal.append({"key": key, "reply": answer.text, "model": judge.model})
            self._said[key] = answer.text

        return ask

    def findings(self, names: Sequence[str]) -> Findings:
        """What the replies say."""
        found, pictures = Findings(failures=self._failures), self._comparing.every()
        items = {picture.name: picture.item for picture in pictures}
        for name in names:
            repeats = {picture.name: self._scores(name, picture) for picture in pictures}
            found.scores[name] = {picture: sum(scores) / len(scores) for picture, scores in repeats.items() if scores}
            found.spreads[name] = measures.spread(list(repeats.values()))
            found.unread[name] = sum(not scores for scores in repeats.values())
            pairs = [self._both_orders(name, pair) for pair in self._comparing.pairings()]
            found.positions[name] = measures.positions(pairs)
            self._against_people(found, name)
        if served := {each.name: each.server_score for each in pictures if each.server_score is not None}:
            found.scores[SERVER] = served
        for first, second in combinations(found.scores, 2):
            found.agreements[first, second] = measures.agreement(found.scores[first], found.scores[second], items)
        return found

    def _scores(self, name: str, picture: Picture) -> list[float]:
        said = [self._said.get(_alone(name, picture, repeat)) for repeat in range(self._comparing.repeats)]
        values = [two_scores(reply)["overall"] for reply in said if reply is not None]
        return [value for value in values if value is not None]

    def _both_orders(self, name: str, pair: tuple[Picture, Picture]) -> tuple[str | None, str | None]:
        said = [self._said.get(_pair(name, one, other)) for one, other in (pair, pair[::-1])]
        first, second = [None if reply is None else replies.winner(reply) for reply in said]
        return first, second

    def _against_people(self, found: Findings, name: str) -> None:
        scores, by_scores, by_pairs = found.scores[name], [], []
        for vote in self._comparing.votes:
            one, other = scores.get(vote.first.name), scores.get(vote.second.name)
            said = None if one is None or other is None else "a" if one > other else "b" if other > one else "tie"
            by_scores.append((vote.choice, said))
            won = measures.winner(*self._both_orders(name, (vote.first, vote.second)))
            by_pairs.append((vote.choice, None if won is None else won.lower()))
        if self._comparing.votes:
            found.people[name], found.pair_people[name] = measures.people(by_scores), measures.people(by_pairs)


def _alone(judge: str, picture: Picture, repeat: int) -> str:
    return f"{judge}|score|{picture.item}|{picture.digest}|{repeat}"


def _pair(judge: str, one: Picture, other: Picture) -> str:
    return f"{judge}|pair|{one.item}|{one.digest}|{other.digest}"
