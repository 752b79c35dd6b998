"""The policy `install`: NVIDIA's own installer, run inside a container whose libraries differ.

It runs as the container's root, in the container, so it can do there what its owner could do, and
nothing else. The installer is the sysadmin's file, lent to it open for reading.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from reconciler.lxc_config import rootfs
from reconciler.nvidia import inside, versions
from reconciler.nvidia.supply import noted
from reconciler.plan import Tell
from state.errors import LxcGpuError
from state.view import Resident, View
from state.wire import Progress

PATIENCE = 900.0
"""Seconds that the installer may take: it unpacks a gigabyte."""
OPTIONS = ("--silent", "--no-kernel-module", "--no-x-check", "--no-nouveau-check")
# What it unpacks is large, and /tmp may be in memory.
ARGV = ("env", "TMPDIR=/var/tmp", "sh", f"/proc/self/fd/{inside.LENT}", *OPTIONS)
NAME = f"NVIDIA-Linux-{versions.MACHINE}-{{}}.run"
"""As NVIDIA calls its installers, with the version left out."""
FULL = re.compile("space left|Disk quota")
LOG = "/var/log/nvidia-installer.log"


def bring_in_step(view: View, user: str, resident: Resident, tell: Tell) -> tuple[str, ...]:
    """Have the container's libraries be of the server's version; notes on what failed.

    Never raises: whoever's container runs can work, with or without GPUs.
    """
    wanted = versions.driver().version
    if wanted is None:
        return ()
    try:
        root, subid = rootfs(view, user), resident.subid
        if versions.inside(root, subid) == wanted:
            return ()
        _install(installer(view, wanted), user, wanted, tell)
        if (found := versions.inside(root, subid)) != wanted:
            raise LxcGpuError(
                "driver-not-installed",
                f"NVIDIA's installer ended well, but your container has {found or 'no libraries'} "
                f"in place of {wanted}.",
                f"Look at {LOG} in your container, or ask your sysadmin.",
            )
    except LxcGpuError as error:
        return noted(user, [error])
    return ()


def installer(view: View, wanted: str) -> Path:
    """NVIDIA's installer of that version. LxcGpuError if the sysadmin has not put it there."""
    path = Path(view.installers) / NAME.format(wanted)
    if not path.is_file():
        raise LxcGpuError(
            "installer-missing",
            f"This server's NVIDIA driver is {wanted}; there is no installer to bring your "
            "container in step, so its GPUs may not work.",
            f"Sysadmin: put {path.name} into {path.parent} on {view.server}.",
        )
    return path


def _install(path: Path, user: str, wanted: str, tell: Tell) -> None:
    ended = inside.run(user, ARGV, lent=path, patience=PATIENCE, tick=_ticker(wanted, tell))
    if ended.status == 0:
        return
    said = "".join(c if c.isprintable() else "\n" for c in ended.said)
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
