"""Checks the sources of mounts for containers, and says where each is mounted.

The kind `mount` mounts each source once below /run/lxc-gpu/mounts
(`reconciler.mounts.locked_mount`), the kind `user_folder` makes SOURCE/USER in it, and a start
binds from there. A source with a wrong owner or mode is left out and reported, never replaced by an
empty folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.host import places
from state.errors import LxcGpuError
from state.view import Mount, View

PATIENCE = 5
"""Seconds that a disk or a NAS has to answer."""
MOST_INSIDE = 4 << 20
"""Bytes that are read of a container's mountinfo: some ten thousand mounts."""
FLAGS: Mapping[str, tuple[str, ...]] = {
    "own": ("nodev",),
    "shared": ("nodev", "nosuid"),
    "read-only": ("nodev", "nosuid", "ro"),
    "home": ("nodev", "nosuid"),
}
"""The flags with which containers see a source, by its access."""
MODES = {"own": "0711", "shared": "1777", "read-only": "0755", "home": "0755"}
"""The mode that a source should have, by its access."""


@dataclass(frozen=True)
class SourceStatus:
    """What is there at a path."""

    kind: str
    """`folder`, `link`, `other`, or empty: nothing."""
    mode: int = 0
    uid: int = 0
    place: tuple[int, int] = (0, 0)
    """Device and inode: equal for two paths to the same thing."""


def place(source: str) -> Path:
    """Where the source is mounted for containers."""
    return places.MOUNTS / source.strip("/").replace(
        "/", "%"
    )  # paths in the state can't contain a %


def source_at(name: str) -> str:
    """The source that is mounted under `name` in our folder."""
    return "/" + name.replace("%", "/")


def bind_source(mount: Mount, user: str) -> Path:
    """The folder that the user's container gets."""
    if mount.access == "home":
        return old_home_place(mount.source, user)
    return place(mount.source) / user if mount.access == "own" else place(mount.source)


def old_home_place(source: str, user: str) -> Path:
    """Where the user's old home in the source is mounted for their container."""
    return places.OLD_HOMES / f"{user}%{place(source).name}"


def old_homes_mounted() -> dict[str, dict[str, frozenset[str]]]:
    """The flags of old homes that are mounted for containers, by user and source."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for point, options in mount_points().items():
        if PurePosixPath(point).parent == PurePosixPath(places.OLD_HOMES):
            user, _, name = PurePosixPath(point).name.partition("%")
            found.setdefault(user, {})[source_at(name)] = options
    return found


def mounted() -> dict[str, frozenset[str]]:
    """The flags of sources that are mounted for containers. This never waits for a disk."""
    found: dict[str, frozenset[str]] = {}
    for point, options in mount_points().items():
        if PurePosixPath(point).parent == PurePosixPath(places.MOUNTS):
            found[source_at(PurePosixPath(point).name)] = options
    return found


def mount_points() -> dict[str, frozenset[str]]:
    """All mount points, with the options of the uppermost mount (proc(5), mountinfo)."""
    return _points(Path("/proc/self/mountinfo"))


def mount_points_inside(pid: str) -> dict[str, frozenset[str]]:
    """All mount points of a process in a container, with the options of the uppermost mount.

    Root inside may mount a hundred thousand times, so only MOST_INSIDE bytes are read, the oldest
    mounts.
    """
    return _points(Path(f"/proc/{pid}/mountinfo"), MOST_INSIDE)


def _points(mountinfo: Path, most: int = -1) -> dict[str, frozenset[str]]:
    with mountinfo.open("rb") as stream:
        text = stream.read(most).decode("utf-8", "surrogateescape")
    lines = text.split("\n")[:-1]  # the last line may be cut off
    fields = (line.split() for line in lines)
    return {f[4]: frozenset(f[5].split(",")) for f in fields if len(f) > 5}


def look(path: Path) -> SourceStatus:
    """What is at `path`, without following a link there. LxcGpuError if the disk doesn't answer."""

    def work(_: int) -> object:
        hostile.still_at_it(PATIENCE)
        try:
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode):
                os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))  # this triggers an automount
                found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [found.st_mode, found.st_uid, found.st_dev, found.st_ino]

    try:
        answer = hostile.as_owner(Path("/"), 0, work)
    except LxcGpuError as error:
        raise LxcGpuError(
            "mount-silent",
            f"{path} does not answer.",
            f"Sysadmin: `ls {path}` has to work, within {PATIENCE} s.",
            details=f"{error.message}",
        ) from error
    if answer is None:
        return SourceStatus("")
    mode, uid, device, inode = answer
    kind = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"
    return SourceStatus(kind, stat.S_IMODE(mode), uid, (device, inode))


def examined(mount: Mount) -> SourceStatus:
    """The status of a mount's source. LxcGpuError, with what to type, if its owner or mode is
    wrong."""
    seen = look(Path(mount.source))
    if seen.kind != "folder":
        raise _no_folder(mount, seen.kind)
    if mount.mounted and mount.source not in mount_points():
        raise LxcGpuError(
            "mount-away",
            f"Nothing is mounted at {mount.source} on this server.",
            f"Sysadmin: `mount {mount.source}`, and see that /etc/fstab has it.",
        )
    if words := wrong_mode(mount, seen):
        raise words
    return seen


def wrong_mode(mount: Mount, seen: SourceStatus) -> LxcGpuError | None:
    """What is wrong with the source's owner or mode; None if nothing is. Pure."""
    source = mount.source
    if seen.uid != 0:
        text = f"{source} belongs to uid {seen.uid}, who could put links in it; it has to be root's"
        return _mode_error(text, f"chown root:root {source}")
    if mount.access in ("own", "home") and seen.mode & 0o022:
        text = f"{source} has mode {seen.mode:04o}: others than root could put links in it"
        return _mode_error(text, f"chmod {MODES[mount.access]} {source}")
    if mount.access == "own" and not seen.mode & 0o001:
        text = f"{source} has mode {seen.mode:04o}: containers can't pass through to the folders"
        return _mode_error(text, f"chmod 0711 {source}")
    if mount.access == "shared" and seen.mode & 0o1007 != 0o1007:
        text = f"{source} has mode {seen.mode:04o}, but everybody has to be able to write there"
        return _mode_error(text, f"chmod 1777 {source}")
    if mount.access == "read-only" and seen.mode & 0o005 != 0o005:
        text = f"{source} has mode {seen.mode:04o}: containers can't read it"
        return _mode_error(text, f"chmod 0755 {source}")
    return None


def _mode_error(text: str, typed: str) -> LxcGpuError:
    return LxcGpuError("mount-mode", f"{text}.", f"Sysadmin: `{typed}` (on the NAS, if it is one).")


def _no_folder(mount: Mount, kind: str) -> LxcGpuError:
    if kind:
        what = "a link" if kind == "link" else "not a folder"
        return LxcGpuError(
            "mount-missing",
            f"{mount.source} is {what} on this server.",
            "Sysadmin: name the folder itself in the state.",
        )
    made = f"install -d -m {MODES[mount.access]} {mount.source}"
    typed = f"mount {mount.source}" if mount.mounted else made
    return LxcGpuError(
        "mount-missing", f"There is no {mount.source} on this server.", f"Sysadmin: `{typed}`"
    )


def all_mounts(view: View) -> dict[str, Mount]:
    """One mount of each source in the view, by source. All mounts of one source are alike."""
    every: Iterable[Mount] = (
        *view.mounts,
        *(mount for resident in view.residents.values() for mount in resident.mounts),
    )
    found: dict[str, Mount] = {}
    for mount in every:
        known = found.setdefault(mount.source, mount)
        if mount.mounted and not known.mounted:
            found[mount.source] = mount
    return found


def usable(sources: Iterable[str]) -> frozenset[str]:
    """The sources that are mounted for containers and whose disks answer."""
    there = mounted()
    return frozenset(source for source in sources if source in there and _answers(source))


def _answers(source: str) -> bool:
    try:
        return look(place(source)).kind == "folder"
    except LxcGpuError:
        return False
