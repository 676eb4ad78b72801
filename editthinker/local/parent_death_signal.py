"""Run a command that dies with the process that started it. Linux only; elsewhere the command is just run.

    python -I -S parent_death_signal.py PARENT_PID SIGNAL COMMAND [ARGUMENT ...]

Run as a script by path, so that it costs a bare interpreter and no imports of the project. It asks the kernel for that signal
when the parent dies (prctl(2), PR_SET_PDEATHSIG), kill -9 included, and then executes the command in its own place. The
setting survives exec. It refers to the *thread* that started the process, so that thread must live as long as the command.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Set the signal, then execute the command. Returns only when that fails."""
    parent, number, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            sys.stderr.write(f"cannot set the parent death signal: {os.strerror(ctypes.get_errno())}\n")
            return 1
        if os.getppid() != parent:
            # The parent died before prctl was called, so the signal would never come.
            return 1
    try:
        os.execvp(command[0], command)  # noqa: S606 - this is what the module is for
    except OSError as exc:
        sys.stderr.write(f"cannot run {command[0]}: {exc.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
