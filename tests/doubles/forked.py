"""Editor workers in processes of their own that need not import torch and diffusers for ten seconds: forked from one that has.

Workers that nobody forked are in `test_editor_dockerfile.py` and `test_parallel_editor.py`.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

_READ_BY_IMPORTS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
"""What libraries read when they are imported. One thread, as tests run side by side; sums of many would also be rounded in
another order.
"""
_PRELOADED = [
    "torch",
    "transformers",
    "diffusers",
    "diffusers.pipelines.flux.pipeline_flux_kontext",
    "services.editor.__main__",
    "services.editor.pipelines.loading",
]


class Forked:
    """As `subprocess.Popen`, as far as tests need it."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its status once it has ended."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its status, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its status.

        Raises:
            subprocess.TimeoutExpired: when it still runs after that many seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()


def forked(
    module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str], before: Callable[[], None] | None = None
) -> Forked:
    """``python -m module …``, whose output goes to a file.

    Args:
        module: what runs.
        arguments: its command line.
        log: where its output goes.
        env: added to this process's environment.
        before: called first, in the new process.
    """
    environment = {**os.environ, **_READ_BY_IMPORTS, **env}
    process = _context().Process(target=_run, args=(module, list(arguments), str(log), environment, before))
    process.start()
    return Forked(process)


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with mock.patch.dict(os.environ, _READ_BY_IMPORTS):
        forkserver.ensure_running()
    return context


def _run(module: str, arguments: list[str], log: str, environment: dict[str, str], before: Callable[[], None] | None) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    if before is not None:
        before()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
