"""The policy `install`: NVIDIA's own installer, run inside a container whose libraries differ.

It runs as the container's root, in the container, so it can do there what its owner could do, and
nothing else. The installer is the sysadmin's file, lent to it open for reading.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reconciler.children import inside
from reconciler.mounts.tree import Tree
from reconciler.nvidia import versions
from reconciler.nvidia.driver import driver
from reconciler.nvidia.supply import noted
from reconciler.plan import Tell
from state.errors import LxcGpuError
from state.view import Resident, View
from state.wire.messages import Progress
from state.words import printable

PATIENCE = 900.0
"""Seconds that the installer may take: it unpacks a gigabyte."""
OPTIONS = ("--silent", "--no-kernel-module", "--no-x-check", "--no-nouveau-check")
# What it unpacks is large, and /tmp may be in memory.
ARGV = ("env", "TMPDIR=/var/tmp", "sh", f"/proc/self/fd/{inside.LENT}", *OPTIONS)
NAME = f"NVIDIA-Linux-{versions.MACHINE}-{{}}.run"
"""NVIDIA's name of its installers, without the version."""
FULL = re.compile("space left|Disk quota")
LOG = "/var/log/nvidia-installer.log"


def bring_in_step(view: View, user: str, resident: Resident, tell: Tell) -> tuple[str, ...]:
    """Have the container's libraries be of the server's version; notes on what failed.

    Never raises: a container that runs can be worked in, with or without GPUs.
    """
    wanted = driver().version
    if wanted is None:
        return ()
    try:
        tree = Tree.of(view, user, resident)
        if versions.inside(tree) == wanted:
            return ()
        with installer(view, wanted) as file:
            _install(file, user, wanted, tell)
        if (found := versions.inside(tree)) != wanted:
            raise LxcGpuError(
                "driver-not-installed",
                f"NVIDIA's installer ended well, but your container has {found or 'no libraries'} "
                f"in place of {wanted}.",
                f"Look at {LOG} in your container, or ask your sysadmin.",
            )
    except LxcGpuError as error:
        return noted(user, [error])
    return ()


@contextmanager
def installer(view: View, wanted: str) -> Iterator[int]:
    """NVIDIA's installer of that version, open for reading.

    LxcGpuError if the sysadmin has not put it there, or if others could have: what it is lent to
    may be hostile, so no link leads from there to another file of root's, and nobody but root says
    what all containers run.
    """
    path = Path(view.installers) / NAME.format(wanted)
    with ExitStack() as opened:
        try:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, folder)
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(path.name, flags, dir_fd=folder)
            opened.callback(os.close, file)
        except FileNotFoundError as error:
            raise LxcGpuError(
                "installer-missing",
                f"This server's NVIDIA driver is {wanted}; there is no installer to bring your "
                "container in step, so its GPUs may not work.",
                f"Sysadmin: put {path.name} into {path.parent} on {view.server}.",
            ) from error
        except OSError as error:
            what = "is a link" if error.errno == errno.ELOOP else f"can't be opened: {error}"
            raise _not_taken(f"{path} {what}", f"put the file itself into {path.parent}") from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _not_taken(f"{path} isn't a file", f"put NVIDIA's installer into {path.parent}")
        for there, descriptor in ((path.parent, folder), (path, file)):
            status = os.fstat(descriptor)
            if status.st_uid != 0 or status.st_mode & 0o022:
                why = f"{there} (uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}) "
                typed = f"look at it, then `chown root:root {there}; chmod go-w {there}`"
                raise _not_taken(f"{why}can be changed by others than root", typed)
        yield file


def _not_taken(why: str, typed: str) -> LxcGpuError:
    return LxcGpuError(
        "installer-untrusted",
        f"NVIDIA's driver is not brought in step in your container: {why}.",
        f"Sysadmin: {typed}.",
    )


def _install(file: int, user: str, wanted: str, tell: Tell) -> None:
    ended = inside.run(user, ARGV, lent=file, patience=PATIENCE, tick=_ticker(wanted, tell))
    if ended.status == 0:
        return
    said = printable(ended.said, "\n")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if FULL.search(said):
        raise LxcGpuError(
            "driver-disk-full",
            f"NVIDIA's driver {wanted} could not be installed in your container: its disk is full.",
            "Make about 2 GB of room, then type the same again.",
        )
    why = "it took too long" if ended.status is None else f"status {ended.status}"
    last = " / ".join(lines[-3:])[-300:] or "it printed nothing"
    print(said[-2000:], file=sys.stderr)  # the journal
    raise LxcGpuError(
        "driver-not-installed",
        f"NVIDIA's driver {wanted} could not be installed in your container ({why}): {last}",
        f"{LOG} in your container may say more. `start` tries again.",
    )


def _ticker(wanted: str, tell: Tell) -> Callable[[float], None]:
    told = [-1]

    def tick(seconds: float) -> None:
        if int(seconds) > told[0]:
            told[0] = int(seconds)
            tell(Progress(f"installing NVIDIA's driver {wanted} in the container ({told[0]} s)"))

    return tick
