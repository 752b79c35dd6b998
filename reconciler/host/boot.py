"""Identifies the server's boot, and counts time by a clock that nobody sets."""

from __future__ import annotations

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Identifies the present boot of the server (random(4))."""
    return _BOOT_ID.read_text().strip()


def boot_clock() -> float:
    """Seconds since the boot, including time in which the machine slept (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
