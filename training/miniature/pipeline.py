"""The stages of `make miniature`, in order. Each leaves files in the run's folder, is skipped or resumed where they are there,
and ends with a gate: a number that has to be reached for the next stage to mean anything.

OUT/lookup.json, gap.txt     the world: how much of the distance only looking removes
OUT/train, fresh, …          rows, in shards
OUT/seeds.md                 differences over all seeds of these sizes
OUT/seed-N/plan.json         sizes of the run
OUT/seed-N/*.pt              checkpoint of each stage: weights, optimiser, step
OUT/seed-N/sft, grpo, …      models, as transformers and vLLM load them
OUT/seed-N/evaluation        replies and sessions of each thinker on each split
OUT/seed-N/metrics.jsonl     every step of every stage
OUT/seed-N/table.md, plots.html, tensorboard, and grpo/README.md, the model card
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from training import event_files, plots, whole_files
from training.card import card
from training.miniature import comparing, evaluating, gap, grpo, model, rows, stages
from training.miniature.comparing import Session
from training.miniature.evaluating import Report, Thinker
from training.miniature.rows import TaughtTurn
from training.miniature.world import INTENTS, Intent, Splits
from training.stage import Plan, Stage

HELD_OUT: Final[dict[str, Splits]] = {
    "fresh": Splits(),
    "photographs": Splits(photographs="held_out"),
    "words": Splits(words="held_out"),
    "looks": Splits(looks="held_out"),
}
"""What is measured apart: new scenes of what was trained on, then one thing at a time that was not. Scenes of `looks` are all to
match a reference, the only instruction that a look can be held out from."""
MODELS: Final = ("untrained", "sft-blind", "sft", "sft-longer", "grpo")
VALID_GATE: Final = 0.95
TARGETS_GATE: Final = 0.5
"""The searched instructions leave at most this share of the distance."""
LONGER_RATE: Final = 7e-4
"""SFT that goes on begins where its first schedule was half-way down."""
_ROW_SEEDS: Final = {"train": 1, "fresh": 2, "photographs": 3, "words": 4, "looks": 5}
_CHECKED: Final = 64  # turns of a gate


@dataclass(frozen=True)
class Sizes:
    """How large a run is. The defaults need 60 CPU-minutes of an AMD EPYC with AVX-512 (2026-11-30).

    Attributes:
        shards, held_out_shards: of rows, for training and for each held-out split.
        read_out_steps, sft_steps, rl_steps: of each stage; SFT that goes on has as many as RL's CPU-seconds pay for.
        batch, prompts, group: turns of an SFT step; turns of an RL step, and replies to each.
        scenes, scored: of each held-out split: scenes with a session, and turns of each scene whose scores are compared.
        gap_scenes, fitted: scenes of the gap, and those that each look-up is searched over.
    """

    shards: int = 32
    held_out_shards: int = 2
    read_out_steps: int = 200
    sft_steps: int = 1500
    rl_steps: int = 120
    batch: int = 16
    prompts: int = 8
    group: int = 8
    scenes: int = 96
    scored: int = 2
    gap_scenes: int = 80
    fitted: int = 12


class Miniature:
    """One run.

    Args:
        out: folder that runs with other seeds share.
        seed: of weights, batches and rollouts.
        sizes: of the run; those of an earlier call with this seed must be the same.
    """

    def __init__(self, out: Path, seed: int = 0, sizes: Sizes | None = None) -> None:
        self._out, self.seed, self._sizes = out, seed, sizes or Sizes()
        self.folder = out / f"seed-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_sizes()
        self.stages: dict[str, Callable[[], bool]] = {
            "gap": self._gap,
            "rows": self._rows,
            "read-out": self._read_out,
            "sft": lambda: self._sft(blind=False),
            "sft-blind": lambda: self._sft(blind=True),
            "grpo": self._grpo,
            "sft-longer": self._sft_longer,
            "evaluation": self._evaluation,
            "report": self._report,
        }

    def run(self, names: Sequence[str] = (), *, past_gates: bool = False) -> bool:
        """Run these stages, or all; whether every gate was passed.

        The first gate that is not passed ends the run, but for `past_gates`: two steps of everything pass no gate.
        """
        missed = []
        for name in names or self.stages:
            started = time.process_time()
            print(f"-- {name}", flush=True)
            passed = self.stages[name]()
            print(f"   {time.process_time() - started:.0f} CPU-seconds", flush=True)
            if not passed:
                missed.append(name)
                if not past_gates:
                    break
        return not missed

    def _check_sizes(self) -> None:
        path = self.folder / "plan.json"
        wanted = asdict(self._sizes)
        if not path.exists():
            whole_files.write(path, json.dumps(wanted, indent=1) + "\n")
        kept = json.loads(path.read_text("utf-8"))
        if kept != wanted:
            raise SystemExit(f"{path} has other sizes, {kept}: call with those, or with another folder")

    # --- the world -------------------------------------------------------------------------------------------------------

    def _gap(self) -> bool:
        path = self._out / "gap.json"
        if not path.exists():
            table = gap.look_up(self._sizes.fitted)
            measured = gap.rows_of(self._sizes.gap_scenes, table, Splits(photographs="held_out", looks="held_out"))
            share, low, high = gap.share(measured)
            kept = {"look_up": table, "share": share, "low": low, "high": high, "table": gap.printed(measured)}
            whole_files.write(path, json.dumps(kept, indent=1))
        kept = json.loads(path.read_text("utf-8"))
        print(kept["table"])
        text = f"the gap on held-out photographs and looks is {kept['share']:.2f} [{kept['low']:.2f}, {kept['high']:.2f}]"
        return _gate(f"{text} of the whole, at least {gap.REQUIRED:.2f}", passed=kept["share"] >= gap.REQUIRED)

    def _rows(self) -> bool:
        for name, splits in {"train": Splits(), **HELD_OUT}.items():
            count = self._sizes.shards if name == "train" else self._sizes.held_out_shards
            intents: tuple[Intent, ...] = ("match",) if name == "looks" else INTENTS
            for number in range(count):
                rows.shard(self._out / name, number, _ROW_SEEDS[name], splits, intents)
        stored = comparing.one_a_scene(self._stored("train"))
        share = sum(row.best for row in stored) / sum(row.turn.scene.whole for row in stored)
        text = f"the targets of {len(stored)} scenes leave {share:.2f} of the distance, at most {TARGETS_GATE}"
        return _gate(text, passed=share <= TARGETS_GATE)

    def _stored(self, split: str) -> list[TaughtTurn]:
        count = self._sizes.shards if split == "train" else self._sizes.held_out_shards
        folder = self._out / split
        missing = [number for number in range(count) if not (folder / f"{number:05}.npz").exists()]
        if missing:
            raise SystemExit(f"{folder} lacks {len(missing)} shards: run the stage rows first")
        return [row for number in range(count) for row in rows.shard(folder, number, _ROW_SEEDS[split])]

    # --- training --------------------------------------------------------------------------------------------------------

    def _read_out(self) -> bool:
        stored = self._stored("train")
        thinker, processor = stages.thinker_of(self.folder, self.seed)
        plan = Plan(self._sizes.read_out_steps, 32, 2e-3, self.seed)
        error = stages.read_out(self.folder, thinker, processor, stored, plan)
        model.save(self.folder / "read-out", thinker, processor)
        return _gate(f"read-out error {error:.3f}, at most {stages.READ_OUT_GATE}", passed=error <= stages.READ_OUT_GATE)

    def _sft(self, *, blind: bool) -> bool:
        name = "sft-blind" if blind else "sft"
        # The vision tower of the control has learned to see as well; only its thinker is shown nothing.
        thinker, processor = self._loaded("read-out")
        plan = Plan(self._sizes.sft_steps, self._sizes.batch, seed=self.seed, blind=blind)
        stages.sft(self.folder, name, (thinker, processor), self._stored("train"), plan)
        return self._kept(name, thinker, processor)

    def _grpo(self) -> bool:
        thinker, processor = self._loaded("sft")
        plan = Plan(self._sizes.rl_steps, self._sizes.prompts, 2e-4, self.seed)
        trainer = grpo.GRPO(self.folder, "grpo", (thinker, processor), self._stored("train"), plan, group=self._sizes.group)
        trainer.run()
        rewards = [row["total"] for row in plots.latest(trainer.stage.metrics.read(), "grpo-rewards")]
        known = [value for value in rewards if value is not None]
        quarter = max(1, len(known) // 4)
        print(f"   mean reward {np.mean(known[:quarter]):.3f} in the first quarter, {np.mean(known[-quarter:]):.3f} in the last")
        return self._kept("grpo", thinker, processor)

    def _sft_longer(self) -> bool:
        thinker, processor = self._loaded("sft")
        plan = Plan(self._longer_steps(), self._sizes.batch, LONGER_RATE, seed=self.seed + 1_000_003)
        print(f"   {plan.steps} steps, for as many CPU-seconds as GRPO had", flush=True)
        stages.sft(self.folder, "sft-longer", (thinker, processor), self._stored("train"), plan)
        return self._kept("sft-longer", thinker, processor)

    def _longer_steps(self) -> int:
        """Steps of SFT that cost as much as GRPO did; kept, so that a resumed stage has the same schedule."""
        path = self.folder / "sft-longer-steps.json"
        if not path.exists():
            costs = {name: Stage.cost(self.folder, name) for name in ("sft", "grpo")}
            (steps, paid), (_, wanted) = costs["sft"], costs["grpo"]
            whole_files.write(path, json.dumps(max(1, round(wanted * steps / max(paid, 1e-9)))))
        return int(json.loads(path.read_text("utf-8")))

    def _loaded(self, name: str) -> tuple[Any, Any]:
        folder = self.folder / name
        if not folder.is_dir():
            raise SystemExit(f"{folder} is missing: run the stage {name} first")
        return model.load(folder)

    def _kept(self, name: str, thinker: Any, processor: Any) -> bool:
        model.save(self.folder / name, thinker, processor)
        checked = comparing.one_a_scene(self._stored("fresh"))[:_CHECKED]
        think = evaluating.model_thinker(thinker, processor, blind=name == "sft-blind")
        valid = evaluating.report(checked, think(checked)).valid
        return _gate(f"{valid:.2f} of {len(checked)} replies valid, at least {VALID_GATE}", passed=valid >= VALID_GATE)

    # --- evaluation ------------------------------------------------------------------------------------------------------

    def _evaluation(self) -> bool:
        for name in ("rules", *MODELS):
            for split in HELD_OUT:
                path = self.folder / "evaluation" / f"{name}-{split}.json"
                if path.exists():
                    continue
                think = self._thinker(name)
                asked = self._scored(split)
                found = comparing.sessions(self._scenes(split), think)
                kept = {"replies": think(asked), "sessions": [asdict(session) for session in found]}
                whole_files.write(path, json.dumps(kept))
                print(f"   {name} on {split}", flush=True)
        tables = self._tables()
        whole_files.write(self.folder / "table.md", tables)
        print(tables)
        _, reports = self.measured("sft", "fresh")
        return _gate(f"{reports.valid:.2f} of SFT's replies valid, at least {VALID_GATE}", passed=reports.valid >= VALID_GATE)

    def _thinker(self, name: str) -> Thinker:
        if name == "rules":
            return evaluating.rule_thinker
        folder = self.folder / ("random" if name == "untrained" else name)
        return evaluating.model_thinker(*model.load(folder), blind=name == "sft-blind")

    def _scenes(self, split: str) -> list[TaughtTurn]:
        return comparing.one_a_scene(self._stored(split))[: self._sizes.scenes]

    def _scored(self, split: str) -> list[TaughtTurn]:
        """The first turns of each scene."""
        chosen: dict[int, list[TaughtTurn]] = {}
        for row in self._stored(split):
            chosen.setdefault(row.turn.scene.seed, []).append(row)
        return [row for found in list(chosen.values())[: self._sizes.scenes] for row in found[: self._sizes.scored]]

    def measured(self, name: str, split: str) -> tuple[list[Session], Report]:
        """What the evaluation found of a thinker on a split."""
        kept = json.loads((self.folder / "evaluation" / f"{name}-{split}.json").read_text("utf-8"))
        return [Session(**session) for session in kept["sessions"]], evaluating.report(self._scored(split), kept["replies"])

    def _tables(self) -> str:
        look_up = json.loads((self._out / "gap.json").read_text("utf-8"))["look_up"]
        parts = []
        for split in HELD_OUT:
            scenes = self._scenes(split)
            members = comparing.clusters(scenes, split)
            measured = {name: self.measured(name, split) for name in ("rules", *MODELS)}
            parts.append(comparing.table(split, comparing.baselines(scenes, look_up), measured, members))
            parts.append(_differences(split, [_sessions(measured)], members))
        return "\n\n".join(parts) + "\n"

    def _seeds(self) -> str:
        """The differences over every seed whose run has these sizes and is evaluated."""
        runs = [Miniature(self._out, seed, self._sizes) for seed in self._evaluated_seeds()]
        parts = [f"Seeds {', '.join(str(run.seed) for run in runs)}, averaged by scene."]
        for split in HELD_OUT:
            members = comparing.clusters(self._scenes(split), split)
            every = [_sessions({name: run.measured(name, split) for name in ("rules", *MODELS)}) for run in runs]
            parts.append(_differences(split, every, members))
        return "\n\n".join(parts) + "\n"

    def _evaluated_seeds(self) -> list[int]:
        wanted = asdict(self._sizes)
        finished = [table.parent for table in self._out.glob("seed-*/table.md")]
        same = [folder for folder in finished if json.loads((folder / "plan.json").read_text("utf-8")) == wanted]
        return sorted(int(folder.name.removeprefix("seed-")) for folder in same)

    def _report(self) -> bool:
        whole_files.write(self._out / "seeds.md", self._seeds())
        metrics = Stage.metrics_of(self.folder).read()
        whole_files.write(self.folder / "plots.html", plots.page(f"Miniature, seed {self.seed}", metrics))
        event_files.write(self.folder / "tensorboard", metrics)
        table = (self.folder / "table.md").read_text("utf-8")
        for name in ("sft", "sft-longer", "grpo"):
            whole_files.write(self.folder / name / "README.md", card(name, self.seed, asdict(self._sizes), table, metrics))
        return _gate(f"plots and cards are in {self.folder}", passed=True)


def tiny() -> Sizes:
    """The least that runs through every stage, in about two CPU-minutes: a check of the pipeline, of nothing else."""
    small = replace(Sizes(), shards=1, held_out_shards=1, read_out_steps=2, sft_steps=2, rl_steps=2, prompts=2, group=2)
    return replace(small, scenes=4, scored=1, gap_scenes=8, fitted=1)


def _sessions(measured: Mapping[str, tuple[list[Session], Report]]) -> dict[str, list[Session]]:
    return {name: sessions for name, (sessions, _) in measured.items()}


def _differences(split: str, runs: Sequence[Mapping[str, Sequence[Session]]], members: Sequence[str]) -> str:
    """Paired differences as a Markdown table, and the verdict on RL."""
    found = comparing.differences(runs, members)
    lines = [f"| {pair} | {second} | {chosen} |" for pair, (second, chosen) in found.items()]
    second, chosen = found["grpo - sft-longer"]
    told = f"by the second edit {comparing.verdict(second)}; by the choice of four {comparing.verdict(chosen)}"
    return "\n".join(["| difference | second edit | chosen of four |", "|---|---|---|", *lines, "", f"{split}: {told}."])


def _gate(text: str, *, passed: bool) -> bool:
    print(f"gate: {text}: {'passed' if passed else 'NOT passed'}", flush=True)
    return passed
