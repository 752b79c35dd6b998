"""Limits of `user-UID.slice`: what an account may take of the server besides its container.

The slice holds the account's ssh sessions, with `connect` (pam_systemd(8) puts them there), and
root's work for it (`shells.helper.charged`). Each account has a drop-in, because the only pattern
that systemd knows, `user-.slice.d`, also includes sysadmins (systemd.unit(5)).
"""

from __future__ import annotations

from pathlib import Path

UNITS = Path("/etc/systemd/system")
DROP_IN = "50-lxc-gpu.conf"


def limits(tasks: int) -> str:
    """The text of a drop-in that allows so many tasks."""
    return f"""\
# Written by lxc-gpu, and put back if it is changed: a file that sorts after it may say otherwise.
[Slice]
# For tar and zstd, which may take 4 GB each and take a tenth; a `connect` takes 9 MB.
MemoryMax=8G
MemorySwapMax=0
TasksMax={tasks}
# Sysadmins' sessions come first.
CPUWeight=20
IOWeight=20
"""


LIMITS = limits(512)
"""For one user's account."""
LIMITS_FOR_ALL = limits(4096)
"""For the accounts that everybody shares."""


def slice_of(uid: int | str) -> str:
    """The slice of a user's sessions (user@.service(5))."""
    return f"user-{uid}.slice"


def drop_in(uid: int) -> Path:
    """The path of the drop-in for a user's slice."""
    return UNITS / f"{slice_of(uid)}.d" / DROP_IN
