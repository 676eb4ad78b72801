"""Run a command that dies with the process that started it. Linux only; elsewhere the command is just run.

    python -I -S leash.py PARENT_PID COMMAND [ARGUMENT ...]

Run as a script by path, so that it costs one bare interpreter and no imports of ours. It asks the kernel for SIGKILL
when the parent dies, even by kill -9, and then becomes the command: there is no process in between. The request
survives exec. It is bound to the *thread* that started us, so that thread has to live as long as the command should.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Bind to the parent, then become the command. Returns only when that is impossible."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.stderr.write(f"cannot bind to the parent process: {os.strerror(ctypes.get_errno())}\n")
            return 1
        if os.getppid() != parent:
            # It died before the request was made; nobody would stop us any more.
            return 1
    try:
        os.execvp(command[0], command)  # noqa: S606 - this is what the module is for
    except OSError as exc:
        sys.stderr.write(f"cannot run {command[0]}: {exc.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
