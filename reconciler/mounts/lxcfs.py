"""Renews lxcfs in running containers: /proc/meminfo and the like, showing their own limits.

LXC binds the files of lxcfs at each start (/usr/share/lxcfs/lxc.mount.hook). When lxcfs ends, each
of these mounts is dead forever: free(1), ps(1) and lscpu(1) fail until it is unmounted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from reconciler.children import inside
from reconciler.children.answering import AnsweringChild, EndedError, SilentError
from reconciler.mounts import locked_mount
from reconciler.mounts.sources import MOST_INSIDE
from state.errors import LxcGpuError
from state.files import read_text

LXCFS = Path("/var/lib/lxcfs")
SINCE = Path("/run/lxcfs.pid")
"""lxcfs writes this file when it starts (lxcfs(1), `--pidfile`)."""
FILES = (
    *(f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo")),
    *("/proc/swaps", "/sys/devices/system/cpu"),
)
"""The files that containers get, as far as the installed lxcfs has them. /proc/stat and
/proc/uptime are not among them: containers see the kernel's own (`reconciler.container.clock`)."""
PATIENCE = 5.0
"""Seconds that renewing one container may take."""
ANSWER = 2.0
"""Seconds that lxcfs may take to answer."""
_TRIES = 20
_ITS_OWN = re.compile(r"/proc/[a-z]+|/sys/devices/system/cpu(/[a-z]+)?", re.ASCII)


def alive() -> str | None:
    """The device of the running lxcfs; None: it doesn't run. It isn't asked: it might hang."""
    pid = (read_text(SINCE) or "").strip()
    if not pid.isdigit() or read_text(Path("/proc") / pid / "comm") != "lxcfs\n":
        return None
    for _ in range(_TRIES):
        text = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        if (found := _uppermost(text).get(str(LXCFS))) is not None:
            return found[0]
        time.sleep(0.1)  # it is starting
    return None


def answers() -> bool:
    """Whether the running lxcfs answers. A child asks, because one that hangs would block the
    caller."""
    name, mode = "lxc-gpu-lxcfs", lambda _: (LXCFS / "proc").stat().st_mode
    with closing(AnsweringChild(name, mode, ANSWER)) as child:
        try:
            child.ask(None)
            return child.answer(ANSWER) is not None
        except (SilentError, EndedError):
            return False


def seen_by(pid: int) -> str:
    """The mountinfo of a process in a container; the oldest mounts only, if there are too many."""
    with Path(f"/proc/{pid}/mountinfo").open("rb") as stream:
        return stream.read(MOST_INSIDE).decode("utf-8", "surrogateescape")


def unfit(mountinfo: str, current: str | None) -> frozenset[str]:
    """The files of an ended lxcfs; all files, if the container has none and lxcfs runs. Pure.

    `current`: the device of the running lxcfs. If some files are dead, files that are missing count
    as well: an earlier renewal may have been killed. What the container's root mounted over such
    files, or did with them otherwise, stays.
    """
    its_own = {
        point: device
        for point, (device, root) in _uppermost(mountinfo).items()
        if root == point and _ITS_OWN.fullmatch(point)
    }
    if current and not its_own:
        return frozenset(FILES)
    dead = frozenset(point for point, device in its_own.items() if device != current)
    if current and dead:
        return dead | (frozenset(FILES) - _mounted(mountinfo))
    return dead


def _mounted(mountinfo: str) -> frozenset[str]:
    """All mount points (proc(5))."""
    words = (line.split(" ", 5) for line in mountinfo.splitlines())
    return frozenset(each[4] for each in words if len(each) > 4)


def _uppermost(mountinfo: str) -> Mapping[str, tuple[str, str]]:
    """The visible mounts of lxcfs, by mount point: device, and path in lxcfs (proc(5))."""
    found: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        fields, _, more = line.partition(" - ")
        words = fields.split(" ")
        if len(words) > 4:
            found.pop(words[4], None)
            if more.startswith("fuse.lxcfs "):
                found[words[4]] = (words[2], words[3])
    return found


def renew(user: str, points: frozenset[str]) -> None:
    """Unmount these files in a user's container, and mount those of the running lxcfs instead.

    A child does it that is the container's root, so it can't be tricked into more than that root
    could do itself. LxcGpuError if it fails.
    """
    runs = alive() is not None
    if runs and not answers():
        raise LxcGpuError(
            "lxcfs-dead",
            f"lxcfs runs and doesn't answer, so {user}'s container can't be given its files.",
            "`systemctl restart lxcfs`; containers see the new one automatically.",
        )
    with ExitStack() as opened:
        trees: dict[str, int | None] = dict.fromkeys(sorted(points))
        for point in trees if runs else ():
            with suppress(FileNotFoundError):  # another release of lxcfs has other files
                tree = locked_mount.clone(LXCFS / point.lstrip("/"))
                opened.callback(os.close, tree)
                trees[point] = tree
        kept = [tree for tree in trees.values() if tree is not None]
        ended = inside.begun(user, lambda _: _exchange(trees), kept).wait(PATIENCE)
    if ended.status != 0:
        raise LxcGpuError(
            "lxcfs-dead",
            f"The dead files of lxcfs in {user}'s container could not be replaced: "
            f"{ended.said.strip() or 'no answer'}",
            f"A restart brings them back: `systemctl restart lxc-gpu@{user}`.",
        )


def _exchange(trees: Mapping[str, int | None]) -> None:
    """Replace the files, in the container."""
    for point, tree in trees.items():
        with suppress(OSError):  # nothing is mounted there
            locked_mount.unmount(Path(point))
        if tree is not None:
            locked_mount.attach(tree, Path(point))
    os._exit(0)
