"""A user's snapshots that are archives: listing and opening them.

They are in the user's own folder, often on a NAS that other servers, and perhaps the container
itself, write to as well. So the folder is hostile: all work in it is done as the user, no link is
followed, and a snapshot counts only if its description is sound and fits its archive.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import time
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.children.hostile import HostileError
from reconciler.host import places
from reconciler.snapshots.copies import NAME, copies_of
from state.errors import LxcGpuError
from state.view import View

ARCHIVE, DESCRIPTION = ".tar.zst", ".json"
OURS = places.KEPT / "snapshots"
"""The default folder, which we make. Another one that the state names has to exist: a NAS that is
away must not be replaced by a folder on the server's own disk."""
MOST = 20_000
"""Files of a folder that are looked at, at most."""
_SERVER = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_PARTIAL = re.compile(rf"\.({_SERVER.pattern})~({NAME.pattern})\.new", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LARGEST = 1 << 60
"""Bytes; larger claims aren't believed."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that is an archive: NAME.tar.zst, and what NAME.json says of it."""

    name: str
    server: str
    """The server that took it."""
    taken: float
    """When it was begun, in seconds since the epoch."""
    packed: int
    """Bytes of the archive."""
    unpacked: int
    """Bytes of the tar stream in it: about what it needs on a disk."""
    sha256: str
    """The archive's SHA-256, in hex."""
    own_name: bool
    """Whether its user named it: then it isn't removed to make room."""


@dataclass(frozen=True)
class UserArchives:
    """The content of a user's folder."""

    whole: tuple[Snapshot, ...] = ()
    """The snapshots, the newest last."""
    broken: tuple[str, ...] = ()
    """Names with an archive or a description, but without a sound pair of both."""
    begun: tuple[tuple[str, str, int], ...] = ()
    """Archives being written, or left by a server that was switched off: server, name, bytes."""


def folder_of(view: View, user: str) -> Path:
    """The folder of the user's snapshots."""
    return Path(view.snapshots) / user


def away(folder: Path) -> LxcGpuError:
    """The error for a missing folder of all users' snapshots."""
    return LxcGpuError(
        "snapshots-missing",
        f"The folder of the snapshots, {folder}, is not there: perhaps the NAS is away.",
        f"Sysadmin: mount it, or `mkdir -m 711 {folder}` (for a NAS with root squash: "
        "1777, there).",
    )


def snapshots_of(view: View, user: str) -> tuple[Snapshot, ...]:
    """The user's snapshots of all servers that share the folder, the newest last."""
    return archives_of(view, user).whole


def archives_of(view: View, user: str) -> UserArchives:
    """The content of the user's folder, read as the user.

    LxcGpuError if the folder around it is missing: a NAS that is away doesn't mean "no snapshots".
    """
    path = folder_of(view, user)

    def work(folder: int) -> object:
        return asdict(look(folder))

    try:
        found = hostile.as_owner(path, view.residents[user].uid, work)
    except HostileError as error:
        if error.code == "no-folder":
            if path.parent != OURS and not path.parent.is_dir():
                raise away(path.parent) from error
            return UserArchives()
        raise
    whole = tuple(Snapshot(**each) for each in found["whole"])
    begun = tuple((server, name, size) for server, name, size in found["begun"])
    return UserArchives(whole, tuple(found["broken"]), begun)


def open_snapshot(view: View, user: str, name: str) -> tuple[int, Snapshot]:
    """A descriptor of the archive, opened as the user, and its description.

    LxcGpuError if there is no such snapshot; it lists those that there are.
    """

    def work(folder: int) -> tuple[int, object]:
        snapshot = read(folder, name)
        if snapshot is None:
            raise LxcGpuError("no-snapshot", "")
        return _open_archive(folder, snapshot), asdict(snapshot)

    try:
        descriptor, found = hostile.opened_as_owner(
            folder_of(view, user), view.residents[user].uid, work
        )
    except HostileError as error:
        if error.code in ("no-folder", "no-snapshot"):
            raise no_such(view, user, name) from error
        raise
    return descriptor, Snapshot(**found)


def no_such(view: View, user: str, name: str) -> LxcGpuError:
    """The error that says which snapshots there are."""
    known = [(each.taken, each.name) for each in snapshots_of(view, user)]
    known += [(each.taken, each.name) for each in copies_of(view, user)]
    names = [name for _, name in sorted(known)]
    there = f"There are: {', '.join(names[-20:])}." if names else "You have none yet."
    return LxcGpuError("no-snapshot", f"You have no snapshot `{name}`. {there}",
                       f"See `ssh {view.server}-manage snapshot --list`.")  # fmt: skip


def damaged(snapshot: Snapshot, digest: str) -> LxcGpuError:
    """The error for an archive that has changed since it was written."""
    return LxcGpuError(
        "snapshot-damaged",
        f"The snapshot {snapshot.name} is damaged: its checksum is another one than when it "
        "was taken.",
        "Nothing was changed. Take another snapshot; tell your sysadmin.",
        details=f"{digest}, not {snapshot.sha256}",
    )


def look(folder: int) -> UserArchives:
    """The content of the folder. To be called as the user."""
    check(folder)
    with os.scandir(folder) as entries:
        files = [entry.name for entry in islice(entries, MOST)]
    stems = {
        f.removesuffix(end) for f in files for end in (ARCHIVE, DESCRIPTION) if f.endswith(end)
    }
    names = sorted(name for name in stems if NAME.fullmatch(name))
    found = {name: read(folder, name) for name in names}
    whole = [each for each in found.values() if each is not None]
    return UserArchives(
        tuple(sorted(whole, key=lambda each: (each.taken, each.name))),
        tuple(name for name, each in found.items() if each is None),
        tuple(_begun(folder, match) for match in map(_PARTIAL.fullmatch, files) if match),
    )


def partial(server: str, name: str) -> str:
    """The name of an archive until it is complete; only `server` writes or removes it."""
    return f".{server}~{name}.new"


def _begun(folder: int, match: re.Match[str]) -> tuple[str, str, int]:
    try:
        size = os.stat(match[0], dir_fd=folder, follow_symlinks=False).st_size
    except OSError:
        size = 0
    return match[1], match[2], size


def check(folder: int) -> None:
    """LxcGpuError unless the folder is the user's, and nobody else may write to it."""
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        raise LxcGpuError(
            "snapshot-folder",
            f"Your snapshots' folder belongs to uid {status.st_uid} with mode {mode:04o}, so it "
            "isn't yours alone. Nothing was done.",
            f"Sysadmin: it has to belong to uid {os.geteuid()}, mode 0700. Find out who made it.",
        )


def read(folder: int, name: str) -> Snapshot | None:
    """The snapshot of that name; None if there is no sound one. To be called as the user."""
    snapshot = description(folder, name)
    try:
        status = os.stat(name + ARCHIVE, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    if snapshot is None or not stat.S_ISREG(status.st_mode) or status.st_size != snapshot.packed:
        return None
    return snapshot


def description(folder: int, name: str) -> Snapshot | None:
    """The description in NAME.json, whether or not there is an archive; None if it isn't sound."""
    if not NAME.fullmatch(name):
        return None
    try:
        text = hostile.read_below(folder, PurePosixPath(name + DESCRIPTION))
    except (OSError, HostileError):
        return None
    return None if text is None else parse(name, text)


def parse(name: str, text: str) -> Snapshot | None:
    """The snapshot that a description describes; None if it isn't sound. Pure but for the clock."""
    try:
        said = json.loads(text)
        snapshot = Snapshot(name, **{f.name: said[f.name] for f in fields(Snapshot)[1:]})
        sizes = (snapshot.packed, snapshot.unpacked)
        sound = (
            _SERVER.fullmatch(snapshot.server)
            and type(snapshot.taken) in (int, float)
            and math.isfinite(snapshot.taken)
            and 0 <= snapshot.taken < time.time() + 366 * 86400
            and all(type(size) is int and 0 <= size < _LARGEST for size in sizes)
            and _SHA256.fullmatch(snapshot.sha256)
            and isinstance(snapshot.own_name, bool)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return snapshot if sound else None


def describe(snapshot: Snapshot) -> str:
    """The description of a snapshot, as `parse` reads it."""
    said = {name: value for name, value in asdict(snapshot).items() if name != "name"}
    return json.dumps(said, indent=1) + "\n"


def _open_archive(folder: int, snapshot: Snapshot) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(snapshot.name + ARCHIVE, flags, dir_fd=folder)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != snapshot.packed:
        os.close(descriptor)
        raise HostileError("hostile", f"{snapshot.name}{ARCHIVE} changed just now.", "Try again.")
    return descriptor
