"""verl's reward function: the edit's own outcome, through a running server.

    reward.custom_reward_function.path=pkg://training.verl_reward
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs='{server: "http://…", judge: qwen3-vl-30b, seeds: 2}'

Each of verl's reward workers has a client and sessions of its own; `parallel` bounds the edits of one worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from editthinker.client import AsyncEditThinker
from training.rewards import RewardFunction, Weights
from training.samples import Sample, UnusableRowError, sample
from training.services import Rollouts, ScoredPicture, served_rewards

SOURCE: Final = "source"
PICTURES: Final = "pictures"
"""What `training.verl_dataset` adds to a row's ``extra_info``."""
MASKED: Final = -1.0
"""The score of a reply that cannot be rewarded. verl has no word for that; `training.verl_advantage` leaves it out."""
_KEPT: Final = 512
"""Samples that a worker remembers; replies to one sample are compared by the same object."""

_functions: dict[tuple[Any, ...], RewardFunction[Sample, ScoredPicture]] = {}
_samples: dict[str, Sample] = {}


async def compute_score(  # noqa: PLR0913 - verl's arguments, and our settings
    data_source: str,  # noqa: ARG001 - verl calls by name
    solution_str: str,
    ground_truth: str,  # noqa: ARG001 - as above
    extra_info: Mapping[str, Any],
    *,
    judge: str,
    server: str | None = None,
    api_key: str | None = None,
    thinker: str = "policy",
    editor: str | None = None,
    seeds: int = 2,
    parallel: int = 8,
    run: str = "verl",
    weights: tuple[float, float, float] = (0.2, 0.6, 0.2),
    **_: Any,
) -> dict[str, Any]:
    """The reward of one reply, and its parts, which verl logs.

    Args:
        data_source, solution_str, ground_truth, extra_info: verl's; the last has the row's columns, and ``source``.
        judge: the server's judge, or a thinker that judges; never the model that is trained.
        server, api_key: EDITTHINKER_BASE_URL and EDITTHINKER_API_KEY by default.
        thinker: the name under which the server knows the model that is trained, if it does.
        editor: of the rollouts; by default the one that made the row's candidate.
        seeds: edits that are averaged.
        parallel: edits in flight.
        run: names the run, so that one that is started again finds its sessions.
        weights: of form, edit and critic.

    Returns:
        ``score`` (`MASKED` where there is none), ``form``, ``edit``, ``critic`` (-1 where they were not measured) and
        ``failed`` (1 or 0).

    Raises:
        ValueError: the judge is the model that is trained.
    """
    try:
        asked = _sample(extra_info)
    except UnusableRowError:
        return _told(None, 0.0, None, None, failed=True)
    settings = (server, api_key, judge, thinker, editor, seeds, parallel, run, tuple(weights), asyncio.get_running_loop())
    if settings not in _functions:
        # Two workers that instruct one session would stop each other's edits.
        rollouts = Rollouts(judge, None, editor, parallel, run=f"{run}-{os.getpid()}")
        function, _release = served_rewards(
            AsyncEditThinker(server, api_key), rollouts, thinker=thinker, seeds=seeds, weights=Weights(*weights)
        )
        _functions[settings] = function
    (reward,) = await _functions[settings]([solution_str], [asked])
    parts = asdict(reward)
    return _told(parts["total"], parts["form"], parts["edit"], parts["critic"], failed=reward.outcome == "failed")


def _told(total: float | None, form: float, edit: float | None, critic: float | None, *, failed: bool) -> dict[str, Any]:
    """Numbers alone: verl averages every value that a reward function returns."""
    values = {"score": total, "form": form, "edit": edit, "critic": critic}
    return {**{name: MASKED if value is None else value for name, value in values.items()}, "failed": float(failed)}


def _sample(extra_info: Mapping[str, Any]) -> Sample:
    name = extra_info["id"]
    if name not in _samples:
        while len(_samples) >= _KEPT:
            del _samples[next(iter(_samples))]
        source = extra_info.get(SOURCE)
        if source is None:
            raise KeyError(f"{name} has no source: set data.custom_cls to EditThinkerDataset of pkg://training.verl_dataset")
        _samples[name] = sample(extra_info, [source] * extra_info[PICTURES])
    return _samples[name]
