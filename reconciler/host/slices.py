"""What an account may take of a server, beside its container: limits of its `user-UID.slice`.

In that slice are its ssh sessions with `connect` (pam_systemd(8) puts them there) and what root
does for it (`shells.helper.charged`). A drop-in for each account, because all of a server, the
sysadmins' too, share the only pattern that systemd knows, `user-.slice.d` (systemd.unit(5)).
"""

from __future__ import annotations

from pathlib import Path

UNITS = Path("/etc/systemd/system")
DROP_IN = "50-lxc-gpu.conf"


def limits(tasks: int) -> str:
    """A drop-in that takes so many tasks."""
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
"""One user's."""
LIMITS_FOR_ALL = limits(4096)
"""Those of the accounts that everybody shares."""


def slice_of(uid: int | str) -> str:
    """The slice of a user's sessions (user@.service(5))."""
    return f"user-{uid}.slice"


def drop_in(uid: int) -> Path:
    """Where the limits of a user's slice stand."""
    return UNITS / f"{slice_of(uid)}.d" / DROP_IN
