"""The homes of manage accounts. A home that belongs to somebody else is never taken."""

from __future__ import annotations

import os
import stat

from reconciler.disk.owned_folder import make_owned_at
from reconciler.host import places
from state.errors import LxcGpuError

MODE = 0o711
"""The container's root, a uid without an account on the host, has to pass through the home."""


def own_home(name: str, uid: int) -> bool:
    """Whether the user's home exists and is a folder of theirs."""
    try:
        home = (places.HOMES / name).lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(home.st_mode) and home.st_uid == uid


def home_conflict(name: str, uid: int) -> LxcGpuError | None:
    """The error for what is in the way of the user's home; None if it is theirs, or missing."""
    home = places.HOMES / name
    if own_home(name, uid) or not os.path.lexists(home):
        return None
    there, typed = home.lstat(), f"`mv {home} {home}.other`"
    whose = "not a folder"
    if stat.S_ISDIR(there.st_mode):
        whose = f"a folder of uid {there.st_uid}, not of uid {uid}"
        typed = f"if it is theirs, `chown -hR {uid}:{uid} {home}`; if not, {typed}"
    return LxcGpuError(
        "home-taken",
        f"{home}, where the home of {name} belongs, is {whose}: it is left alone.",
        f"Sysadmin: look at it; {typed}.",
    )


def home_ready(name: str, uid: int) -> bool:
    """Whether the home exists, belongs to the account and has MODE."""
    try:
        home = os.lstat(os.path.join(places.HOMES, name))  # noqa: PTH118  # a thousand are looked at
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(home.st_mode) and home.st_uid == uid and stat.S_IMODE(home.st_mode) == MODE


def no_home(account: str, error: OSError) -> LxcGpuError:
    """The error for a disk that refuses."""
    return LxcGpuError("home", f"The home of {account} can't be prepared: {error.strerror}.")


def make_home(name: str, uid: int) -> None:
    """Make a home with MODE. The user's own keeps its content; another's is left alone."""
    if (taken := home_conflict(name, uid)) is not None:
        raise taken
    home = places.HOMES / name
    if not os.path.lexists(home):
        make_owned_at(home, uid, MODE)
        return
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, uid, uid)
        os.fchmod(descriptor, MODE)
    finally:
        os.close(descriptor)
