"""For a child that is forked and becomes no other program: what it keeps open, its deadline.

It has a copy of every descriptor, locks' included: a lock ends with the last copy (flock(2)). One
that hangs in the kernel and can't be killed would hold its user's lock until the next boot.
"""

from __future__ import annotations

import mmap
import os
import struct
import syslog
import time
from collections.abc import Collection

STDERR = 2


def keep_only(kept: Collection[int]) -> None:
    """Close all others; the standard ones that aren't kept lead nowhere from now on."""
    syslog.closelog()  # else libc would close whatever has that number when this logs again
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(STDERR + 1):
        if standard not in kept:
            os.dup2(nowhere, standard)
    first = STDERR + 1
    for descriptor in sorted(each for each in kept if each > STDERR):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, max(first, os.sysconf("SC_OPEN_MAX")))


class Deadline:
    """Until when a child may take: made before the fork, moved by the child, read by both."""

    _number = struct.Struct("d")

    def __init__(self, seconds: float) -> None:
        self._shared = mmap.mmap(-1, self._number.size)
        self.be_in(seconds)

    def be_in(self, seconds: float) -> None:
        """Move it to so many seconds from now."""
        self._number.pack_into(self._shared, 0, time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until then; negative once it has passed."""
        (until,) = self._number.unpack_from(self._shared)
        return float(until) - time.monotonic()
