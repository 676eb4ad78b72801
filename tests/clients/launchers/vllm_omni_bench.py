"""``vllm bench serve --omni`` of the vllm-omni wheel, next to a vLLM of another version.

python vllm_omni_bench.py FOLDER [OPTION …]: FOLDER holds the unpacked wheel. Its packages' own ``__init__`` are not run: they
patch the engine of one vLLM version, which the load generator does not need.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

_PACKAGES = ("vllm_omni", "vllm_omni.entrypoints", "vllm_omni.entrypoints.cli")


def main(folder: Path) -> None:
    """Run the load generator with the rest of the command line."""
    sys.path.append(str(folder))
    for name in _PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = package
    parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    importlib.import_module("vllm_omni.benchmarks.patch.patch")
    command = importlib.import_module("vllm_omni.entrypoints.cli.benchmark.serve").OmniBenchmarkServingSubcommand
    command.add_cli_args(parser)
    command.cmd(parser.parse_args())


if __name__ == "__main__":
    wheel = Path(sys.argv.pop(1))
    main(wheel)
