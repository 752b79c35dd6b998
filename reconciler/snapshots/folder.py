"""Makes the folder of one user's snapshots, on a disk of the server or on a NAS.

A NAS with root squash (exports(5)) treats the server's root as nobody. So the user makes the folder
where users may (in a sticky folder), or else root does, or else a sysadmin on the NAS.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.children import hostile
from reconciler.disk.owned_folder import make_owned_at
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
    try:
        make_owned_at(folder, uid)
    except OSError as error:
        raise LxcGpuError(
            "snapshot-folder",
            f"Your snapshots' folder {folder} can't be made from this server: {error.strerror}.",
            f"Sysadmin: where {folder.parent} really is, `mkdir -m 700 {folder.name}` and `chown "
            f"{uid}:{uid} {folder.name}`; for all users at once, `chmod 1777` {folder.parent}.",
        ) from error
