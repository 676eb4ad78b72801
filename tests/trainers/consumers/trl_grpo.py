"""``training.grpo`` with given replies: ``trl_grpo.py DIES_BEFORE_STEP ARGUMENT…``. Runs in TRL's environment.

A random model writes no instruction, so replies are given, by turns; rewards, sessions, checkpoints and metrics are the
command's own. The process kills itself before it takes the given step, as an operator would.
"""

import os
import signal
import sys

import training.grpo
from training.replies import rendered

dies, arguments = int(sys.argv[1]), sys.argv[2:]
REPLIES = [
    rendered("better", 5, 8, "warmth +45%, brightness +10%"),
    rendered("worse", 5, 8, "make it much colder and bluer"),
    "no reply in the form",
    rendered("refused", 5, 8, "put a dragon on the table"),
]


class Given(training.grpo.GRPOTrainer):
    def _generate_single_turn(self, prompt_ids: list, *_: object, **__: object) -> tuple:
        if self.state.global_step + 1 == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        tokenizer = self.processing_class.tokenizer
        return [tokenizer(REPLIES[number % 4] + "<|im_end|>")["input_ids"] for number in range(len(prompt_ids))], None


training.grpo.GRPOTrainer = Given
sys.exit(training.grpo.main(arguments))
