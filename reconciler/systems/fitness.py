"""Whether new systems can be stored with their own ids: asked of the kernel, once for each boot.

A mount that shifts owners is not enough: engines in a container (Docker, Podman) mount overlays
on their system, which works on such a mount from Linux 5.19 on. So one is tried, as the root of a
user namespace, on the very file system of the containers.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reconciler.disk.removal import delete
from reconciler.host import places
from reconciler.mounts.owner_map import Owner, owner_map
from reconciler.mounts.tree import LEAST, Tree, cover
from state import command, files
from state.errors import LxcGpuError
from state.view import View

KEPT = places.RUN / "raw-systems.json"
"""The answer; /run is empty after a boot."""
PROBE = ".lxc-gpu-probe-"
PATIENCE = 20
"""Seconds that it may take."""
IDS = 65_536
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_OVERLAY = """
mkdir lower upper work merged
echo below >lower/file
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged
echo above >merged/file
mv merged/file merged/moved
test "$(cat merged/moved lower/file)" = "above
below"
"""


@dataclass(frozen=True)
class Fitness:
    """What the kernel said."""

    device: int
    """The file system of the containers, by its number."""
    why_not: str
    """Empty: it can."""


def fitness(view: View) -> Fitness:
    """What the kernel said since the last boot; else it is asked. OSError without the folder."""
    device = Path(view.containers).stat().st_dev
    try:
        kept = Fitness(**json.loads(files.read_text(KEPT) or "{}"))
    except (ValueError, TypeError):
        kept = None
    if kept is not None and kept.device == device:
        return kept
    try:
        found = Fitness(device, tried(Path(view.containers)))
    except (LxcGpuError, OSError) as error:  # a full disk, or a slow one: no answer
        return Fitness(device, str(error))
    files.write_file(KEPT, f"{json.dumps(asdict(found))}\n")
    return found


def tried(containers: Path) -> str:
    """Why the kernel can't; empty: it can. LxcGpuError or OSError if it didn't get to answer."""
    folder = Path(mkdtemp(prefix=PROBE, dir=containers))
    tree = Tree(folder / "rootfs", LEAST, IDS)
    try:
        tree.make(raw=True)
        argv = ["/usr/bin/python3", "-IS", str(Path(__file__).resolve()), str(tree.slot)]
        done = command.run(argv, check=False, timeout=PATIENCE)
        return "" if done.ok else (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    finally:
        delete(folder)


def main(slot: Path) -> None:
    """Become the root of a user namespace who mounts an overlay in a raw system. For a program."""
    try:
        cover([Tree(slot, LEAST, IDS)])
    except LxcGpuError as error:
        sys.exit(error.details)
    os.chdir(slot)  # the way to it may be closed to that root
    libc = ctypes.CDLL(None, use_errno=True)
    with owner_map(Owner(0, 0), Owner(LEAST, LEAST), IDS) as ids:
        if libc.setns(ids, _CLONE_NEWUSER) or libc.unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execv("/bin/sh", ["sh", "-euc", _OVERLAY])  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]))
