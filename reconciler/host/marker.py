"""Marks the folder of the containers as this server's, and notes whose systems were made in it.

If its disk isn't mounted, or `containers:` changes in the state, an empty folder is where users'
systems were. So root puts a marker into the folder, and the server remembers it: without the marker
nothing is made there. A system that was made here and is gone is not made anew unasked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from reconciler.host import locks, places
from reconciler.host.places import rootfs
from state import files, plain, records
from state.errors import LxcGpuError
from state.view import View

LARGEST = 4096
"""Bytes of a marker that are read: more than it has."""
GONE = "system-gone"
"""The code of the error that `gone` returns."""
_ANEW = "`setup/gpu-server --new-systems`"


class Marker(NamedTuple):
    """The marker in the folder."""

    server: str
    ident: str


class FolderRecord(NamedTuple):
    """What the server remembers of its folder, outside of it."""

    folder: str
    ident: str


class FolderLook(NamedTuple):
    """The state of the folder at one moment."""

    record: FolderRecord | None
    marker: Marker | None
    systems: frozenset[str] = frozenset()
    """The users whose systems are in it."""
    made: frozenset[str] = frozenset()
    """The users whose systems were made here, by the server's notes."""

    @property
    def gone(self) -> frozenset[str]:
        """The users whose systems were made here and are not in the folder."""
        return self.made - self.systems

    @property
    def known(self) -> bool:
        """Whether the marker is the one that the server remembers."""
        if self.marker is None or self.record is None:
            return False
        return self.marker.ident == self.record.ident

    def nobodys(self, view: View) -> bool:
        """Whether no user has a system here, by notes and state, so that none can be missing."""
        return not self.made and not view.residents

    def adoptable(self, view: View) -> bool:
        """Whether the folder has a marker that isn't remembered, but fits this server."""
        alike = self.marker is not None and self.marker.server == view.server
        return alike and (self.record is None or self.nobodys(view))

    def settled(self, view: View) -> bool:
        """Whether the folder is marked; False: not yet, and it may be. LxcGpuError: it may not be.

        Systems without marker and record are of a release that had no markers. Pure.
        """
        if self.known:
            return True
        if self.marker is not None:
            if not self.adoptable(view):
                raise _other(view, self.marker)
            return False
        if self.nobodys(view) or (self.record is None and self.systems):
            return False
        raise _away(view, self.record)


def check(view: View) -> bool:
    """Whether the folder is marked as this server's; False: not yet, and it may be.

    LxcGpuError if it may not be, or can't be read.
    """
    with _readable(view):
        if FolderLook(
            _read_record(), _read_marker(view)
        ).known:  # the usual case: fast, as nothing is listed
            return True
    return look(view).settled(view)


def look(view: View, *, damaged_is_none: bool = False) -> FolderLook:
    """The folder as it is now. LxcGpuError if it, or its marker, can't be read or isn't root's."""
    with _readable(view):
        try:
            marker = _read_marker(view)
        except LxcGpuError:
            if not damaged_is_none:
                raise
            marker = None
        return FolderLook(_read_record(), marker, _systems_in(view), _names(places.MADE))


@contextmanager
def _readable(view: View) -> Iterator[None]:
    """Turn an OSError in the block into a LxcGpuError: unreadable is not empty."""
    try:
        yield
    except OSError as error:
        raise LxcGpuError(
            "containers-unreadable",
            f"{view.containers} can't be read: {error.strerror}. It is not known whose "
            "containers are in it, so nothing is made there.",
            f"Sysadmin: `ls {view.containers}`; `dmesg` may say what is wrong with its disk.",
            details=repr(error),
        ) from error


def require(view: View) -> None:
    """LxcGpuError unless the folder is marked. Call it before making anything there."""
    if not check(view):
        raise LxcGpuError(
            "containers-unmarked",
            f"{view.containers} is not marked yet as the folder of {view.server}'s containers.",
            "Sysadmin: `lxc-gpu reconcile` does it.",
        )


def system_there(view: View, user: str) -> bool:
    """Whether the user's system is there; False: none was made here.

    LxcGpuError if it is gone, or if that isn't known because the folder isn't there.
    """
    check(view)
    with _readable(view):
        if rootfs(view, user).is_dir():
            return True
        if was_made(user):
            raise gone(view, user)
    return False


def mark(view: View, *, anew: bool = False) -> None:
    """Mark the folder as this server's; its own marker stays. LxcGpuError if that isn't allowed.

    `anew`: make it this server's whatever was known before. Users without a system in it get new
    ones.
    """
    with locks.lock("marker"):
        there = look(view, damaged_is_none=anew)
        if not anew:
            there.settled(view)
        marker = there.marker
        if marker is None or not (there.known or there.adoptable(view)):
            marker = Marker(view.server, os.urandom(16).hex())
            Path(view.containers).mkdir(parents=True, exist_ok=True)
            records.write(_place(view), marker)
        for user in there.gone if anew else ():
            forget(user)
        for user in there.systems - there.made:  # they were made before there were notes
            note(user)
        known = FolderRecord(view.containers, marker.ident)
        records.write(places.CONTAINERS, known)


def was_made(user: str) -> bool:
    """Whether the user's system was made here, and not given up."""
    return (places.MADE / user).exists()


def made_when(user: str) -> float:
    """When the note was last made, in seconds since the epoch; 0: there is none."""
    try:
        return (places.MADE / user).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def note(user: str) -> None:
    """Note that the user's system was made here."""
    places.MADE.mkdir(mode=0o700, exist_ok=True)
    files.write_file(places.MADE / user, "", 0o600)


def forget(user: str) -> None:
    """Give the user's system up: if it isn't there, a new one is made."""
    (places.MADE / user).unlink(missing_ok=True)


def gone(view: View, user: str) -> LxcGpuError:
    """The error for a system that was made here and is gone."""
    return LxcGpuError(
        "system-gone",
        f"The container of {user} was made on {view.server}, and is not in {view.containers} "
        "any more. No new one is made in its place.",
        f"Sysadmin: look for it, also in backups, and put it back as {view.containers}/{user}. To "
        f"begin anew, {user} types `ssh register@{view.server}-manage {user}`, which asks first.",
    )


def _systems_in(view: View) -> frozenset[str]:
    names = _names(Path(view.containers))
    return frozenset(name for name in names if name[0] != "." and _is_there(rootfs(view, name)))


def _is_there(root: Path) -> bool:
    try:
        return root.is_dir()
    except OSError:
        return True  # it is damaged: that counts as unreadable, not as missing


def _names(folder: Path) -> frozenset[str]:
    """The names in a folder; empty if there is no folder."""
    try:
        return frozenset(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return frozenset()


def _place(view: View) -> Path:
    return Path(view.containers) / places.MARKER


def _read_marker(view: View) -> Marker | None:
    """The marker. LxcGpuError if what is there isn't root's own file."""
    try:
        descriptor = os.open(_place(view), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if status.st_uid != 0 or not stat.S_ISREG(status.st_mode):
                raise ValueError("not root's file")
            return plain.from_json(Marker, stream.read(LARGEST), newer=True)
    except ValueError as error:
        raise LxcGpuError(
            "containers-marker",
            f"{_place(view)} is not a marker of root's, so it is not known whose containers "
            "these are.",
            f"Sysadmin: look at it. If these are {view.server}'s containers, {_ANEW} marks them; "
            "users without one there begin anew.",
            details=repr(error),
        ) from error


def _read_record() -> FolderRecord | None:
    """What the server remembers. A damaged record counts as none: the marker restores it."""
    return records.read(places.CONTAINERS, FolderRecord)


def _away(view: View, record: FolderRecord | None) -> LxcGpuError:
    folder, server = view.containers, view.server
    if record is not None and record.folder != folder:
        why = f"`containers:` was changed, and {server}'s containers are in {record.folder}"
        typed = (
            "change it back, or move them, all stopped: "
            f"`cp --archive --no-target-directory {record.folder} {folder}`"
        )
    else:
        or_new = ", or this server was installed anew" if record is None else ""
        why = f"most likely its disk isn't mounted{or_new}"
        typed = f"`findmnt --target {folder}`; mount its disk, and see that /etc/fstab has it"
    return LxcGpuError(
        "containers-away",
        f"{folder} is not marked as the folder of {server}'s containers: {why}. Nothing is "
        "made there, and no container starts.",
        f"Sysadmin: {typed}. Then `lxc-gpu reconcile`. Only if they are lost: {_ANEW}; users "
        "without a system there begin anew.",
    )


def _other(view: View, marker: Marker) -> LxcGpuError:
    whose = f"{marker.server}'s" if marker.server != view.server else f"others of {view.server}'s"
    return LxcGpuError(
        "containers-other",
        f"By its marker, {view.containers} holds containers that are {whose}: another disk "
        "is mounted there, or `containers:` names another folder. Nothing is made there, and "
        "no container starts.",
        "Sysadmin: mount the right one, then `lxc-gpu reconcile`. If these are to be "
        f"{view.server}'s: {_ANEW}; users without a system there begin anew.",
    )
