"""Makes the folder of one user's snapshots, on a disk of the server or on a NAS.

A NAS with root squash (exports(5)) treats the server's root as nobody. So the user makes the folder
where users may (in a sticky folder), or else root does, or else a sysadmin on the NAS.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reconciler.children import hostile
from reconciler.snapshots.user_archives import OURS, away, folder_of
from state.errors import LxcGpuError
from state.view import View

_THERE, _DENIED, _NOWHERE = "there", "denied", "nowhere"


def ready_folder(view: View, user: str) -> Path:
    """The user's folder, made if it is missing. LxcGpuError if it can't be made."""
    folder, uid = folder_of(view, user), view.residents[user].uid
    if folder.parent == OURS:
        OURS.mkdir(mode=0o711, exist_ok=True)
        OURS.chmod(0o711)
    found = _made_as_user(folder, uid)
    if found == _DENIED:
        _make_as_root(folder, uid)
        found = _made_as_user(folder, uid)
    if found == _NOWHERE:
        raise away(folder.parent)
    if found == _DENIED:
        raise LxcGpuError(
            "snapshot-folder",
            f"{folder.parent} doesn't let its users in, so there can be no snapshots.",
            f"Sysadmin: `chmod 711 {folder.parent}`, and all folders above need `o+x`.",
        )
    return folder


def _made_as_user(folder: Path, uid: int) -> str:
    """Make the folder as the user. Returns the result."""

    def work(_: int) -> str:
        try:
            folder.lstat()
        except FileNotFoundError:
            pass
        except PermissionError:
            return _DENIED
        else:
            return _THERE
        try:
            folder.mkdir(mode=0o700)
        except FileNotFoundError:
            return _NOWHERE
        except PermissionError:
            return _DENIED
        return _THERE

    made: str = hostile.as_owner(Path("/"), uid, work)
    return made


def _make_as_root(folder: Path, uid: int) -> None:
    """Make the folder as root, under another name first, so that it never has another owner."""
    beside = f".{folder.name}.new"
    try:
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _root_may_not(folder, uid, error) from error
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(beside, dir_fd=parent)  # what a killed one left
        os.mkdir(beside, 0o700, dir_fd=parent)
        os.chown(beside, uid, uid, dir_fd=parent, follow_symlinks=False)
        os.rename(beside, folder.name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.rmdir(beside, dir_fd=parent)
        raise _root_may_not(folder, uid, error) from error
    finally:
        os.close(parent)


def _root_may_not(folder: Path, uid: int, error: OSError) -> LxcGpuError:
    return LxcGpuError(
        "snapshot-folder",
        f"Your snapshots' folder {folder} can't be made from this server: {error.strerror}.",
        f"Sysadmin: where {folder.parent} really is, `mkdir -m 700 {folder.name}` and "
        f"`chown {uid}:{uid} {folder.name}`; for all users at once, `chmod 1777` {folder.parent}.",
    )
