"""The device files that a container sees: nodes of its own, on a small file system of root's.

A container has no device control group, so the node and its mode are the wall: inside, nobody can
make another one (mknod(2) is refused in a user namespace). The server's own nodes are only looked
at. Each container's stand in /run/lxc-gpu/devices/USER, a tmpfs that only its root can pass
through; what the state passes on belongs to its root, who may give it modes and groups as on any
machine. NVIDIA's keep root's modes: by those its driver says who may divide GPUs up (MIG).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.disk.subvolumes import opened
from reconciler.host import places
from reconciler.mounts.bind import Bind
from reconciler.mounts.locked_mount import unmount
from state import command
from state.errors import LxcGpuError
from state.files import read_text

DEV = Path("/dev")
SYS = Path("/sys/dev/char")
FOR_ALL = ("/dev/fuse", "/dev/net/tun")
"""Devices of every container, for file systems by programs (sshfs, rclone, AppImage) and for VPNs.
What they make belongs to the container's own namespaces."""
_MODULES = {
    "/dev/fuse": "`modprobe fuse`",
    "/dev/net/tun": "`modprobe tun`",
    "/dev/kvm": "`modprobe kvm_intel` or `modprobe kvm_amd`, and virtualisation on in the firmware",
    "/dev/kfd": "`modprobe amdgpu`",
    "/dev/infiniband/uverbs*": "`modprobe ib_uverbs`",
    "/dev/infiniband/rdma_cm": "`modprobe rdma_ucm`",
}
"""The command that makes the kernel provide each."""
OPTIONS = "nosuid,noexec,size=1m,mode=0700"
MODE = 0o666
"""The mode of a device that the state passes on: everybody in the container may use it."""


@dataclass(frozen=True)
class Device:
    """A device file of the server."""

    path: Path
    number: int
    """Major and minor in one (makedev(3))."""
    for_others: int = 0
    """The permissions that its mode on the server gives to others."""


def named(pattern: str) -> tuple[Path, ...]:
    """The device files that a name means now; with `*` at its end, those of every number."""
    path = Path(pattern)
    if not pattern.endswith("*"):
        return (path,) if path.is_symlink() or path.exists() else ()
    found = (f for f in path.parent.glob(path.name) if is_named(f, (pattern,)))
    return tuple(sorted(found, key=lambda file: int(file.name[len(path.name) - 1 :])))


def is_named(device: Path, patterns: Iterable[str]) -> bool:
    """Whether one of these names means this device file. Pure."""
    path = str(device)
    return any(
        path == pattern or (pattern.endswith("*") and _number_after(pattern[:-1], path))
        for pattern in patterns
    )


def _number_after(begin: str, path: str) -> bool:
    rest = path.removeprefix(begin)
    return path.startswith(begin) and rest.isascii() and rest.isdigit()


def look(device: Path) -> Device:
    """The server's device file. LxcGpuError if the file isn't the device of that name."""
    status = device.lstat()
    if not stat.S_ISCHR(status.st_mode) or device.parent.resolve() != device.parent:
        raise _unfit(device, "isn't a character device, or a link leads there")
    if (kernels := _kernels_name(status.st_rdev)) not in (None, device):
        raise _unfit(device, f"has the number of {kernels}")
    return Device(device, status.st_rdev, status.st_mode & 0o7)


def looked_at(devices: Iterable[Path]) -> tuple[list[Device], list[LxcGpuError]]:
    """The devices that are in order, and what is wrong with the others."""
    fit, wrong = list[Device](), list[LxcGpuError]()
    for device in devices:
        try:
            fit.append(look(device))
        except LxcGpuError as error:
            wrong.append(error)
        except FileNotFoundError:  # it went away just now
            wrong.append(missing(str(device)))
    return fit, wrong


def missing(pattern: str) -> LxcGpuError:
    """The error for a name that the server has no device of."""
    make = _MODULES.get(pattern, "load the driver that makes it")
    taken = "" if pattern in FOR_ALL else ", or take it out of `devices`"
    return LxcGpuError(
        "device-missing", f"This server has no {pattern}.", f"Sysadmin: {make}{taken}."
    )


def _unfit(device: Path, why: str) -> LxcGpuError:
    return LxcGpuError(
        "device-unfit",
        f"{device} of this server {why}.",
        f"Sysadmin: look at it (`ls -l {device}`); `udevadm trigger` makes nodes anew.",
    )


def _kernels_name(number: int, sys: Path = SYS) -> Path | None:
    """The kernel's name of the device with this number; None if it gives none.

    It is the DEVNAME of the uevent, as devtmpfs uses it. NVIDIA's driver gives none.
    """
    text = read_text(sys / f"{os.major(number)}:{os.minor(number)}" / "uevent") or ""
    names = [line[8:] for line in text.splitlines() if line.startswith("DEVNAME=")]
    return DEV / names[0] if names else None


def still_is(node: Device) -> bool:
    """Whether the number of a container's node still means the same device.

    A device that is gone for a moment keeps its node, as it comes back under its number.
    """
    try:
        return look(node.path).number == node.number
    except LxcGpuError:
        return False
    except FileNotFoundError:
        return _kernels_name(node.number) in (None, node.path)


def folder(user: str) -> Path:
    """The folder of the nodes of the user's container."""
    return places.DEVICES / user


def users() -> list[str]:
    """The users who have a folder of nodes."""
    return sorted(f.name for f in places.DEVICES.iterdir()) if places.DEVICES.is_dir() else []


def given(user: str) -> list[Device]:
    """The nodes that the user's container still has. OSError if they can't be read."""
    try:
        with opened(folder(user)) as there:
            return [
                Device(_path(name), os.stat(name, dir_fd=there, follow_symlinks=False).st_rdev)
                for name in _names(there)
            ]
    except FileNotFoundError:
        return []


def give(user: str, subid: int, devices: Iterable[Device], strict: Iterable[Device]) -> list[Bind]:
    """Make the nodes anew for a container that is about to start.

    `devices` belong to its root; the `strict` ones keep the server's modes. LxcGpuError or OSError
    if they can't be made. The caller holds the user's lock.
    """
    place = folder(user)
    places.DEVICES.mkdir(mode=0o711, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    if not place.is_mount():
        command.run(["mount", "-t", "tmpfs", "-o", OPTIONS, "lxc-gpu-devices", str(place)])
    with opened(place) as there:
        os.fchown(there, 0, subid)
        os.fchmod(there, 0o710)
        for name in _names(there):
            _close(there, name)
        for device in devices:
            _make(there, device, MODE, subid)
        for device in strict:
            _make(there, device, device.for_others * 0o111, 0)
    given = (*devices, *strict)
    return [Bind(place / _name(d.path), str(d.path), ("optional",)) for d in given]


def take_away(user: str, devices: Iterable[Path]) -> None:
    """Take nodes from a container, even a running one; what it has open stays open."""
    with opened(folder(user)) as there:
        for device in devices:
            _close(there, _name(device))


def remove(user: str) -> None:
    """Take all nodes, and their file system."""
    place = folder(user)
    take_away(user, [device.path for device in given(user)])
    if place.is_mount():
        unmount(place)
    place.rmdir()


def _names(there: int) -> list[str]:
    with os.scandir(there) as entries:
        return sorted(entry.name for entry in entries)


def _name(device: Path) -> str:
    return str(device.relative_to(DEV)).replace("/", "%")


def _path(name: str) -> Path:
    return DEV / name.replace("%", "/")


def _make(there: int, device: Device, mode: int, owner: int) -> None:
    name = _name(device.path)
    os.mknod(name, stat.S_IFCHR, device.number, dir_fd=there)
    os.chown(name, owner, owner, dir_fd=there)
    os.chmod(name, mode, dir_fd=there)


def _close(there: int, name: str) -> None:
    """Remove a node. It becomes root's and closed to others first, for whoever still sees it."""
    os.chown(name, 0, 0, dir_fd=there)
    os.chmod(name, 0, dir_fd=there)
    os.unlink(name, dir_fd=there)
