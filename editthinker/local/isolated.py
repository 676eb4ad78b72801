"""Run one of the project's servers in an isolated interpreter.

    python -I isolated.py NAME MODULE [ARGUMENT ...]

NAME is what the usage text calls the program; MODULE is ``orchestrator``, ``services.editor`` or ``services.thinker``,
whose ``__main__.main`` is called. ``-I`` keeps the working directory and PYTHONPATH from the front of ``sys.path``, so that
a user's own ``services`` package, or a ``redis.py``, is not imported instead of the installed one. Three things are then
put back:

- the project's own packages are always those next to this file, also where another installed project has a package of
  the same name (two editable installs in one environment);
- the directory that holds them, when ``-I`` left it out (``pip install --user``);
- PYTHONPATH, but last: clusters make installed packages available through it.

The environment is passed on unchanged, so vLLM, which the thinker becomes, is not isolated. Run as a script by path;
nothing of the project is imported before the paths are set.
"""

import importlib
import os
import site
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
OURS = frozenset({"editthinker", "evaluation", "orchestrator", "services", "training"})


class OwnPackages:
    """A finder that looks for the project's packages in one directory only."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG004
        """The spec of a package of the project; None for any other module."""
        return PathFinder.find_spec(name, [ROOT]) if name in OURS else None


def main(name: str, module: str, arguments: list[str]) -> None:
    """Set the paths, then call the module's ``main``."""
    sys.meta_path.insert(0, OwnPackages)
    if ROOT not in sys.path:
        site.addsitedir(ROOT)
    sys.path += [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.argv = [name, *arguments]
    try:
        command = importlib.import_module(f"{module}.__main__")
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package in OURS:
            raise
        sys.exit(f"{name}: the package {package!r} is not installed: pip install 'editthinker[local]'")
    command.main()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
