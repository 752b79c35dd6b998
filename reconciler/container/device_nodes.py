"""The device files that a container sees: nodes of its own, on a small file system of root's.

A container has no device control group, so the node and its mode are the wall: inside, nobody can
make another one (mknod(2) is refused in a user namespace). The server's own nodes are only looked
at. Each container's stand in /run/lxc-gpu/devices/USER, a tmpfs that only its root can pass
through; they belong to its root, who may give them modes and groups as on any machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.host import places
from reconciler.mounts.bind import Bind
from state import command
from state.errors import LxcGpuError
from state.files import read_text

DEV = Path("/dev")
SYS = Path("/sys/dev/char")
FOR_ALL = (DEV / "fuse", DEV / "net/tun")
"""What every container has: file systems by programs (sshfs, rclone, AppImage), and VPNs. What
they make belongs to the container's own namespaces."""
OPTIONS = "nosuid,noexec,size=1m,mode=0700"
MODE = 0o666
"""Of a new node: who is in the container may use it."""


def folder(user: str) -> Path:
    """Where the nodes of the user's container are."""
    return places.DEVICES / user


def number_of(device: Path) -> int | None:
    """The number (makedev(3)) of the server's device file; None if there is none.

    LxcGpuError if it isn't what it is called: containers would get something else.
    """
    try:
        status = device.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISCHR(status.st_mode) or device.parent.resolve() != device.parent:
        raise _unfit(device, "is no character device, or a link leads there")
    if (kernels := kernels_name(status.st_rdev)) not in (None, device):
        raise _unfit(device, f"has the number of {kernels}")
    return status.st_rdev


def kernels_name(number: int, sys: Path = SYS) -> Path | None:
    """What the kernel calls the device with this number; None if it doesn't say.

    By DEVNAME of its uevent, as devtmpfs names it. NVIDIA's driver says none.
    """
    text = read_text(sys / f"{os.major(number)}:{os.minor(number)}" / "uevent") or ""
    names = [line[8:] for line in text.splitlines() if line.startswith("DEVNAME=")]
    return DEV / names[0] if names else None


def _unfit(device: Path, why: str) -> LxcGpuError:
    return LxcGpuError(
        "device-unfit",
        f"{device} of this server {why}.",
        f"Sysadmin: look at it (`ls -l {device}`); `udevadm trigger` makes nodes anew.",
    )


def give(user: str, subid: int, devices: Iterable[Path]) -> list[Bind]:
    """Make the nodes anew for a container that is about to start: those that the server has.

    LxcGpuError or OSError if they can't be made. The user's lock is held.
    """
    place = folder(user)
    _have_file_system(place)
    with _opened(place) as there:
        os.fchown(there, 0, subid)
        os.fchmod(there, 0o710)
        for name in _names(there):
            _close(there, name)
        return [
            Bind(place / _make(there, device, number, subid), str(device), ("optional",))
            for device in devices
            if (number := number_of(device)) is not None
        ]


def _have_file_system(place: Path) -> None:
    places.DEVICES.mkdir(mode=0o711, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    if not place.is_mount():
        command.run(["mount", "-t", "tmpfs", "-o", OPTIONS, "lxc-gpu-devices", str(place)])


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    there = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield there
    finally:
        os.close(there)


def _names(there: int) -> list[str]:
    with os.scandir(there) as entries:
        return sorted(entry.name for entry in entries)


def _make(there: int, device: Path, number: int, subid: int) -> str:
    name = str(device.relative_to(DEV)).replace("/", "%")
    os.mknod(name, stat.S_IFCHR, number, dir_fd=there)
    os.chown(name, subid, subid, dir_fd=there)
    os.chmod(name, MODE, dir_fd=there)
    return name


def _close(there: int, name: str) -> None:
    """Take a node away, also from who still sees it: root's from then on, and shut for others."""
    os.chown(name, 0, 0, dir_fd=there)
    os.chmod(name, 0, dir_fd=there)
    os.unlink(name, dir_fd=there)
