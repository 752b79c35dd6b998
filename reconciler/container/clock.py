"""The clock since the boot, as a container sees it: since its own start (time_namespaces(7)).

Uptime, boot time and how long a process runs go by it. The monotonic clock stays the server's: what
profilers of GPUs compare it with is the driver's, which knows no namespaces.
"""

from __future__ import annotations

import time
from pathlib import Path

SUPPORTED = Path("/proc/self/ns/time")
KERNELS_OWN = ("uptime", "stat")
"""In /proc, what says the time of the boot and the time since. lxcfs's say one since init's start
and the other since the server's boot; the kernel's fit what it says of processes."""


def clock_lines(since_boot: float) -> str:
    """The configuration's lines for a start so many seconds after the server's boot. Pure.

    Whole seconds are what LXC 5 takes. The hook runs behind lxcfs's, in the container's namespaces.
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
