"""SGLang's ``bench_serving`` for diffusion servers, from its own wheel, without the engine that its packages import.

python sglang_bench.py FOLDER [OPTION …]: FOLDER holds the unpacked wheel. Only what it prints and logs with is replaced.
"""

from __future__ import annotations

import importlib
import logging
import runpy
import sys
import types
from pathlib import Path

_PACKAGES = ("sglang", "sglang.multimodal_gen", "sglang.multimodal_gen.benchmarks")


def module(name: str, **attributes: object) -> None:
    """A module with these attributes."""
    sys.modules[name] = made = types.ModuleType(name)
    vars(made).update(attributes)


def say(*words: object) -> None:
    """Write a line."""
    sys.stdout.write(f"{' '.join(map(str, words))}\n")


def main(folder: Path) -> None:
    """Run the load generator with the rest of the command line."""
    for name in _PACKAGES:
        # A package that is found, and whose own __init__, which imports the engine, is not run.
        module(name, __path__=[str(folder / name.replace(".", "/"))])
    log = "sglang.multimodal_gen.runtime.utils.logging_utils"
    module(log, init_logger=logging.getLogger, configure_logger=lambda *_, **__: None)
    text = "sglang.multimodal_gen.test.test_utils"
    module(text, print_divider=lambda length: say("-" * length), print_value_formatted=say)
    module("sglang.srt.utils.network", NetworkAddress=None)
    importlib.import_module("sglang.multimodal_gen.benchmarks.datasets")
    runpy.run_module("sglang.multimodal_gen.benchmarks.bench_serving", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    wheel = Path(sys.argv.pop(1))
    main(wheel)
