"""Whether new systems can be stored raw: asked of the kernel once for each boot.

A mount that shifts owners is not enough: engines in a container (Docker, Podman) mount overlays on
their system, which works on such a mount from Linux 5.19 on. So an overlay is tried, as the root of
a user namespace, on the containers' file system. The result is noted only if the kernel answered: a
full or slow disk says nothing about it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reconciler.archives.id_map import be_root
from reconciler.disk.removal import delete
from reconciler.host import locks, places
from reconciler.mounts.tree import LEAST, Tree, cover
from state import command, records
from state.errors import LxcGpuError
from state.view import View

KEPT = places.RUN / "raw-systems.json"
"""The noted answer; /run is empty after a boot."""
PROBE = ".lxc-gpu-probe-"
PATIENCE = 20
"""Seconds that the probe may take."""
IDS = 65_536
REFUSED = 3
"""The probe's exit status when the kernel refused."""
REFUSALS = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW)
"""Errors by which the kernel says that it can't, now and later (mount_setattr(2), mount(2))."""
_CLONE_NEWNS = 0x20000


@dataclass(frozen=True)
class RawSupport:
    """The kernel's answer."""

    device: int
    """The device number of the containers' file system."""
    why_not: str
    """Why raw systems don't work; empty: they do."""
    answered: bool = True
    """Whether the kernel gave that answer; if not, it is asked again."""


def raw_support(view: View) -> RawSupport:
    """The kernel's answer since the last boot, asked now if need be. OSError without the folder."""
    device = Path(view.containers).stat().st_dev
    kept = records.read(KEPT, RawSupport)
    if kept is not None and kept.device == device:
        return kept
    try:
        found = tried(Path(view.containers))
    except (LxcGpuError, OSError) as error:
        return RawSupport(device, str(error), answered=False)
    if found.answered:
        records.write(KEPT, found)
    return found


def tried(containers: Path) -> RawSupport:
    """Ask the kernel. LxcGpuError or OSError if it couldn't be asked."""
    with locks.lock("probe"):
        for left in containers.glob(f"{PROBE}*"):  # left by a probe that was killed
            delete(left)
        folder = Path(mkdtemp(prefix=PROBE, dir=containers))
        tree = Tree(folder / "rootfs", LEAST, IDS)
        try:
            tree.make(raw=True)
            argv = ["/usr/bin/python3", "-IS", str(Path(__file__).resolve()), str(tree.slot)]
            done = command.run(argv, check=False, timeout=PATIENCE)
        finally:
            delete(folder)
    why = "" if done.ok else (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    device = containers.stat().st_dev
    return RawSupport(device, why, answered=done.ok or done.status == REFUSED)


def main(slot: Path) -> int:
    """Mount an overlay in a raw system, as the root of a user namespace; the exit status."""
    try:
        _show(slot)
        _be_its_root()
        _overlay()
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return REFUSED if error.errno in REFUSALS else 1
    return 0


def _show(slot: Path) -> None:
    try:
        cover([Tree(slot, LEAST, IDS)])
    except LxcGpuError as error:
        raise error.__cause__ or error from None
    os.chdir(slot)  # the way to it may be closed to that root


def _be_its_root() -> None:
    be_root(LEAST, IDS)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _overlay() -> None:
    """Mount an overlay in the working folder, and change and rename a file in it."""
    below, merged = Path("lower/file"), Path("merged")
    for name in ("lower", "upper", "work", "merged"):
        Path(name).mkdir()
    below.write_text("below")
    options = b"lowerdir=lower,upperdir=upper,workdir=work"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"overlay", b"merged", b"overlay", 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    (merged / "file").write_text("above")
    moved = (merged / "file").rename(merged / "moved")
    if (moved.read_text(), below.read_text()) != ("above", "below"):
        raise OSError(errno.EINVAL, "an overlay on it shows something else than was written")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
