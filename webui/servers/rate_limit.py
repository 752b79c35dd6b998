"""A connection to a machine that may mean harm: it can send only so much, by whatever means.

paramiko trusts the other side to keep to ssh's windows, takes packets of any size and buffers what
nobody reads. So what comes is counted here, below it, before it is decrypted.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

MOST_AT_ONCE = 65_536
"""Bytes; the other side tells how long a packet is, and Python would allocate as much."""
WAKE = 1.0
"""Seconds; paramiko would wake ten times a second to see whether it was closed."""


class TokenBucket:
    """So much at once, and so much a second; what isn't spent is saved up."""

    def __init__(
        self, most: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = self._left = most
        self._per_second = per_second
        self._clock = clock
        self._at = clock()

    def spend(self, amount: float) -> bool:
        """Spend it; False if there isn't so much left."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= amount
        return self._left >= 0


class RateLimitedSocket(socket.socket):
    """A connected socket that breaks off when more comes than is allowed."""

    def __init__(self, connected: socket.socket, allowance: TokenBucket) -> None:
        super().__init__(fileno=connected.detach())
        self._allowance = allowance
        self.overrun = False
        """Whether it broke off for this."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """At most `size` bytes. ConnectionAbortedError beyond what is allowed."""
        got = super().recv(min(size, MOST_AT_ONCE), flags)
        if not self._allowance.spend(len(got)):
            self.overrun = True
            raise ConnectionAbortedError(errno.ECONNABORTED, "more than is allowed")
        return got

    def settimeout(self, seconds: float | None) -> None:
        """As for any socket, but never short ones."""
        super().settimeout(None if seconds is None else max(seconds, WAKE))

    def hang_up(self) -> None:
        """Let whoever waits for it know at once; the number stays taken until it is closed."""
        try:
            self.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was first
