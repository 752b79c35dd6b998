"""What containers may not ask the kernel, besides what LXC denies every container (seccomp(2)).

Subvolumes of btrfs: whoever owns a folder may make one. It would be in no snapshot of the system
that it stands in, could leave its quota, and would be in the way when the system is removed. And
whoever owns one may make it read-only, so that no key could be taken out of it. The kernel answers
as a file system that has none (ENOTTY); systemd then makes folders, Docker takes overlay2.
"""

from __future__ import annotations

import errno
from pathlib import Path

from reconciler.host import places
from state import files

LXCS = Path("/usr/share/lxc/config/common.seccomp")
"""The profile of LXC's own package, which ours goes on from."""
DENIED = {
    "BTRFS_IOC_SNAP_CREATE": 0x50009401,
    "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E,
    "BTRFS_IOC_SNAP_DESTROY": 0x5000940F,
    "BTRFS_IOC_SNAP_CREATE_V2": 0x50009417,
    "BTRFS_IOC_SUBVOL_CREATE_V2": 0x50009418,
    "BTRFS_IOC_SUBVOL_SETFLAGS": 0x4008941A,
    "BTRFS_IOC_SNAP_DESTROY_V2": 0x5000943F,
}
"""Requests of ioctl(2), as linux/btrfs.h has them; of older ones, the argument is as large."""
_LOW_HALF = 0xFFFFFFFF
"""The kernel looks at no more of a request, so neither may the comparison."""


def profile(lxcs: str) -> str:
    """The whole profile, from the text of LXC's. Pure."""
    refused = [
        f"ioctl errno {errno.ENOTTY} [1,{number:#x},SCMP_CMP_MASKED_EQ,{_LOW_HALF:#x}]"
        for number in DENIED.values()
    ]
    return "\n".join([lxcs.strip(), "[all]", *refused, ""])


def write() -> None:
    """Put the profile where `lxc-start` looks for it, if LXC's is another one than before."""
    text = profile(files.read_text(LXCS) or "2\ndenylist\n")
    if files.read_text(places.SECCOMP) != text:
        files.write_file(places.SECCOMP, text)
