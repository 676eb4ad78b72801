"""A day in minutes: ``python -m tests.attacks.day [--seconds 90] [--tree FOLDER]``.

One tenant tries everything to fill Redis, the disk, the temporary folder and the connections, with Redis and the quotas made
small. Another tenant's edits are timed for the same time without it. Both are printed side by side.

The exit code is 1 if the other tenant's edits fail, or take more than twice as long and half a second.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tests.attacks import files
from tests.attacks.arena import ATTACKER, MIB, READER, Arena, Cost, Edits, Outcome, arena, attacked_by, timed_edits, watched
from tests.attacks.scenario import LATENCY_FACTOR, LATENCY_S, settle
from tests.attacks.scenarios_http import IMAGE, SESSIONS, form, noise
from tests.attacks.scenarios_work import EMOJI

REDIS_BYTES: Final = 64 * MIB
SECONDS: Final = 90.0
PAUSE_S: Final = 0.05
ENDLESS: Final = {"max_turns": "20", "patience": "20", "semantic_threshold": "10", "quality_threshold": "10"}
SETTINGS: Final[Mapping[str, str]] = {
    "EDITTHINKER_TENANT_STREAMS": "50",
    "EDITTHINKER_QUOTA_UNFINISHED": "100",
    "EDITTHINKER_QUOTA_REDIS_BYTES": "16000000",
    "EDITTHINKER_QUOTA_BLOB_BYTES": "200000000",
}


@dataclass(frozen=True)
class Plan:
    """What the attacker's process is told; it can be sent there."""

    seconds: float

    def __call__(self, place: Arena, outcome: Outcome) -> None:
        """Run every kind of attack at the same time, each in a thread."""
        ends = time.monotonic() + self.seconds
        threads = [threading.Thread(target=_again_and_again, args=(each, place, outcome, ends)) for each in KINDS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _again_and_again(kind: Callable[[Arena, Outcome], None], place: Arena, outcome: Outcome, ends: float) -> None:
    while time.monotonic() < ends:
        try:
            kind(place, outcome)
        except (httpx.HTTPError, OSError):
            outcome.answers["closed"] += 1
        time.sleep(PAUSE_S)


def _instructions(place: Arena, outcome: Outcome) -> None:
    """Long instructions and many turns, for Redis."""
    with place.client() as client:
        outcome.got(client.post(SESSIONS, files={"image": IMAGE}, data={"prompt": EMOJI * 32_000, **ENDLESS}))


def _feedback(place: Arena, outcome: Outcome) -> None:
    """Instructions as feedback, for Redis."""
    with place.client() as client:
        made = outcome.got(client.post(SESSIONS, files={"image": IMAGE}, data={"prompt": "x", "review": "each_turn", **ENDLESS}))
        if made.status_code == httpx.codes.ACCEPTED:
            for number in range(30):
                said = {"action": "instruct", "instruction": f"{number} {EMOJI * 8000}"}
                outcome.got(client.post(f"{SESSIONS}/{made.json()['id']}/feedback", json=said))


def _candidates(place: Arena, outcome: Outcome) -> None:
    """Many candidates of each upload, for the disk."""
    with place.client() as client:
        fields = {"prompt": "warmer", "strategy": "think_best_of_n", "candidates": "16", **ENDLESS}
        outcome.got(client.post(SESSIONS, files={"image": noise(480, 320)}, data=fields))


def _uploads(place: Arena, outcome: Outcome) -> None:
    """Uploads that stop before their end, for the temporary folder."""
    body = form(noise(2400, 2500)[: 12 * MIB], prompt="x")[:-10]
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(place.connect())
            connection.settimeout(5)
            lines = ("content-type: multipart/form-data; boundary=b", f"content-length: {len(body) + 100_000}")
            connection.sendall(place.head(f"POST {SESSIONS}", *lines) + body)
        time.sleep(3)
    outcome.answers["left"] += 5


def _streams(place: Arena, outcome: Outcome) -> None:
    """Streams and replies that are not read, for connections and memory."""
    with place.client() as client:
        listed = outcome.got(client.get(f"{SESSIONS}?limit=1")).json().get("data", [])
    if not listed:
        return
    with contextlib.ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(place.connect())
            path = f"{SESSIONS}/{listed[0]['id']}/" + ("events" if number % 2 else "source")
            connection.sendall(place.head(f"GET {path}"))
        time.sleep(2)
    outcome.answers["left"] += 40


def _lists(place: Arena, outcome: Outcome) -> None:
    """Lists and conversions with a read-only key."""
    with place.client(READER) as client:
        listed = outcome.got(client.get(f"{SESSIONS}?limit=100")).json().get("data", [])
        for session in listed[:3]:
            outcome.got(client.get(f"{SESSIONS}/{session['id']}/source?format=webp"))


def _pictures(place: Arena, outcome: Outcome) -> None:
    """Small files of much work."""
    with place.client() as client:
        for data in (files.progressive_jpeg(scans=100), files.lossless_webp(), files.deep_png(), files.png_chunks(100_000)):
            outcome.got(client.post(SESSIONS, files={"image": data}, data={"prompt": "x", "max_turns": "1"}))


KINDS: Final = (_instructions, _feedback, _candidates, _uploads, _streams, _lists, _pictures)


@dataclass
class Day:
    """Both runs."""

    quiet: Edits
    attacked: Edits
    outcome: Outcome
    costs: dict[str, Cost]
    left: dict[str, int]
    faults: list[str]


def live(folder: Path, seconds: float, *, tree: Path | None = None, settings: Mapping[str, str] = SETTINGS) -> Day:
    """A quiet run, then one of the same length with the attacker."""
    with arena(folder, tree=tree, settings=settings, services=False) as place:
        connection = place.redis()
        connection.config_set("maxmemory-policy", "noeviction")
        connection.config_set("maxmemory", REDIS_BYTES)
        with timed_edits(place) as quiet:
            time.sleep(seconds)
        before = place.left()
        with watched(place) as costs, timed_edits(place) as attacked:
            outcome = attacked_by(Plan(seconds), place, limit_s=seconds * 2 + 60)
        left = {name: size - before[name] for name, size in place.left().items()}
        faults = list(outcome.faults)
        with contextlib.suppress(httpx.HTTPError, KeyError):
            settle(place)
        with place.client(ATTACKER) as client:
            if client.get("/readyz").status_code != httpx.codes.OK:
                faults.append("/readyz is not 200 afterwards")
    slowest = LATENCY_FACTOR * quiet.quantile(0.95) + LATENCY_S
    if attacked.quantile(0.95) > slowest:
        faults.append(f"the other tenant's p95 is {attacked.quantile(0.95):.2f} s, more than {slowest:.2f} s")
    if attacked.success < 1:
        faults.append(f"the other tenant's edits: {dict(attacked.statuses)}")
    return Day(quiet, attacked, outcome, costs, left, faults)


def table(day: Day) -> str:
    """Both runs, side by side."""
    answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(day.outcome.answers.items()))
    cost = day.costs["orchestrator"]
    rows = [
        ("another tenant's edits", f"{len(day.quiet.seconds):,}", f"{len(day.attacked.seconds):,}"),
        ("of them served", f"{day.quiet.success:.1%}", f"{day.attacked.success:.1%}"),
        *(
            (f"p{share * 100:.0f}", f"{day.quiet.quantile(share):.2f} s", f"{day.attacked.quantile(share):.2f} s")
            for share in (0.5, 0.95, 0.99)
        ),
        ("the attacker's answers", "-", answers),
        ("memory of the orchestrator grew by", "-", f"{cost.grown_mib:.0f} MiB"),
        ("its processor time", "-", f"{cost.cpu_s:.0f} s"),
        *((f"left in {name}", "-", f"{size / MIB:.1f} MiB") for name, size in day.left.items()),
    ]
    return "| | quiet | attacked |\n|---|---|---|\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def report(seconds: float, tree: Path | None = None) -> int:
    """Live a day and print it; returns the number of failed checks."""
    with tempfile.TemporaryDirectory() as folder:
        day = live(Path(folder), seconds, tree=tree)
    sys.stdout.write(table(day))
    for fault in day.faults[:10]:
        sys.stderr.write(f"a day: {fault}\n")
    return len(day.faults)


def main() -> int:
    """Live a day, and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of each of the two runs")
    parser.add_argument("--tree", type=Path, help="run the services from this source tree")
    arguments = parser.parse_args()
    return 1 if report(arguments.seconds, arguments.tree) else 0


if __name__ == "__main__":
    raise SystemExit(main())
