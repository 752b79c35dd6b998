"""The boot-time clock of a container, which begins at its own start (time_namespaces(7)).

Uptime, boot time and the age of processes follow it. The monotonic clock stays the server's, as
profilers of GPUs compare it with the driver's, which doesn't know namespaces.
"""

from __future__ import annotations

import time
from pathlib import Path

SUPPORTED = Path("/proc/self/ns/time")
KERNELS_OWN = ("uptime", "stat")
"""Files in /proc with the time of the boot and the time since. lxcfs counts one from init's start
and the other from the server's boot; the kernel's own fit what it says of processes."""


def clock_lines(since_boot: float) -> str:
    """The configuration's lines for a start so many seconds after the server's boot. Pure.

    LXC 5 takes whole seconds. The hook runs after that of lxcfs, in the container's namespaces.
    """
    places = " ".join(f"$LXC_ROOTFS_MOUNT/proc/{name}" for name in KERNELS_OWN)
    return (
        f"lxc.time.offset.boot = -{int(since_boot)}s\n"
        f'lxc.hook.mount = /bin/sh -c "umount -q {places}; true"\n'
    )


def own_clock() -> str:
    """The configuration's lines for a start now; empty on a kernel without time namespaces."""
    if not SUPPORTED.exists():
        return ""
    return clock_lines(time.clock_gettime(time.CLOCK_BOOTTIME))
