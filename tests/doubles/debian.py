"""Programs of Debian's packages for tests, unpacked into a folder of the repository without being installed.

program(name, package, folder)      where it is: on PATH, or unpacked there
browser()                           Chromium's program, and the environment that it needs
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_WRAPPER = """\
#!/bin/sh
root=$(dirname "$0")
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*/pulseaudio | tr ' ' ':')
export LD_LIBRARY_PATH
exec "$root/{program}" "$@"
"""


class NoProgramError(RuntimeError):
    """There is none on this machine, and none can be had."""


def browser() -> tuple[str, dict[str, str]]:
    """Chromium's program, and the environment that it needs.

    Raises:
        NoProgramError: with what to install.
    """
    found = Path(program("chromium", "chromium", ".chromium", also=("chromium-common",)))
    unpacked = found.parent / "usr/lib/chromium/chromium"
    if not unpacked.exists():
        return str(found), {}
    # Debian's own script looks for the program in /usr/lib.
    folders = [*found.parent.glob("usr/lib/*-linux-gnu*"), *found.parent.glob("usr/lib/*-linux-gnu*/pulseaudio")]
    return str(unpacked), {"LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders)}


def program(name: str, package: str, folder: str, *, also: Sequence[str] = ()) -> str:
    """The installed program, or the one of Debian's package, unpacked into `folder` once.

    Args:
        also: further packages that it needs, which are no libraries.

    Raises:
        NoProgramError: with what to install.
    """
    if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return found
    cache = ROOT / folder
    unpacked = cache / "root" / name
    if unpacked.exists():
        return str(unpacked)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoProgramError(f"install {package}: {name} is not on PATH, and there is no apt-get to fetch it with")
    cache.mkdir(exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            _unpack(cache / "root", package, also)
    if not unpacked.exists():
        raise NoProgramError(f"Debian's {package} has no {name}")
    return str(unpacked)


def _unpack(target: Path, package: str, also: Sequence[str]) -> None:
    """A package and the libraries that this machine lacks, in a folder that appears complete or not at all."""
    making = target.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    own = ["-o", "APT::Sandbox::User=root", "-o", f"Dir::Cache={making}/apt"]
    try:
        names = _packages(own, package, target.parent, also)
    except NoProgramError:
        # No package lists, as in a slim image: some of our own, which takes no root and leaves the system as it is.
        lists = making / "lists"
        (lists / "partial").mkdir(parents=True)
        own += ["-o", f"Dir::State::Lists={lists}"]
        _apt([*own, "update"], making, package)
        names = _packages(own, package, target.parent, also)
    _apt([*own, "download", *names], making, package)
    for archive in making.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(making)], check=True, capture_output=True)
        archive.unlink()
    shutil.rmtree(making / "lists", ignore_errors=True)
    shutil.rmtree(making / "apt", ignore_errors=True)
    for found in (*making.glob("usr/bin/*"), *making.glob("usr/sbin/*")):
        wrapper = making / found.name
        wrapper.write_text(_WRAPPER.format(program=found.relative_to(making)))
        wrapper.chmod(0o755)
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)


def _packages(options: list[str], package: str, folder: Path, also: Sequence[str]) -> list[str]:
    """What apt would install; only the package itself and its libraries are of use here (Debian's JavaScript is none)."""
    plan = _apt([*options, "install", "--simulate", "--no-install-recommends", package], folder, package)
    names = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    return [name for name in names if name in {package, *also} or (name.startswith("lib") and not name.startswith("libjs-"))]


def _apt(arguments: list[str], folder: Path, package: str) -> str:
    done = subprocess.run(["apt-get", "-q", *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise NoProgramError(f"install {package}: apt-get could not fetch it: {done.stderr.strip()[-500:]}")
    return done.stdout
