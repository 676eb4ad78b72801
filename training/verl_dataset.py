"""verl's view of ``editthinker export --as verl``: its dataset class, with the source's file where a reward can reach it.

    data.custom_cls.path=pkg://training.verl_dataset data.custom_cls.name=EditThinkerDataset

verl hands a reward function the row's ``extra_info`` and no picture. Loading this module also registers the advantage estimator
``grpo_masked`` (`training.verl_advantage`) in the process that computes advantages, which is the one that loads the data.
"""

from __future__ import annotations

from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from training import verl_advantage
from training.verl_reward import PICTURES, SOURCE

verl_advantage.register()


class EditThinkerDataset(RLHFDataset):  # type: ignore[misc]  # verl ships no types
    """As `RLHFDataset`; ``extra_info`` has the file of the source as ``source``, and how many ``pictures`` the prompt has."""

    def __getitem__(self, item: int) -> dict[str, Any]:
        """A row with its prompt."""
        row: dict[str, Any] = super().__getitem__(item)
        # As stored: decoding it and encoding it again would cost more, and lose its colour profile.
        stored = self.dataframe.with_format("arrow")[item][self.image_key].to_pylist()[0]
        row["extra_info"] = {**row["extra_info"], SOURCE: stored[0]["bytes"], PICTURES: len(stored)}
        return row
