"""Limits how much a machine can send over a connection, even if it means harm.

paramiko trusts the other side to respect ssh's windows, accepts packets of any size and buffers
what nobody reads. So the bytes are counted below it, before they are decrypted.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

MOST_AT_ONCE = 65_536
"""Bytes. Python would allocate as much as the other side claims a packet to have."""
WAKE = 1.0
"""Seconds. paramiko would wake up ten times a second to see whether the socket was closed."""


class TokenBucket:
    """Allows up to `most` at once and `per_second` in the long run."""

    def __init__(
        self, most: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = self._left = most
        self._per_second = per_second
        self._clock = clock
        self._at = clock()
        self._lock = Lock()

    def spend(self, amount: float) -> bool:
        """Take `amount` out; False if there isn't that much left."""
        with self._lock:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._at) * self._per_second)
            self._at = now
            self._left -= amount
            return self._left >= 0

    @contextmanager
    def more(self, amount: float) -> Iterator[None]:
        """Allow `amount` besides, once, during the block."""
        with self._lock:
            self._most += amount
            self._left += amount
        try:
            yield
        finally:
            with self._lock:
                self._most -= amount
                self._left = min(self._left, self._most)


class RateLimitedSocket(socket.socket):
    """A connected socket that breaks off when more comes than its bucket allows."""

    def __init__(self, connected: socket.socket, allowance: TokenBucket) -> None:
        super().__init__(fileno=connected.detach())
        self._allowance = allowance
        self.overrun = False
        """Whether it broke off for that reason."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive at most `size` bytes. ConnectionAbortedError if that is more than allowed."""
        got = super().recv(min(size, MOST_AT_ONCE), flags)
        if not self._allowance.spend(len(got)):
            self.overrun = True
            raise ConnectionAbortedError(errno.ECONNABORTED, "more than is allowed")
        return got

    def settimeout(self, seconds: float | None) -> None:
        """Set a timeout of at least `WAKE` seconds."""
        super().settimeout(None if seconds is None else max(seconds, WAKE))

    def hang_up(self) -> None:
        """End whatever waits for the socket. Its descriptor stays open until `close`."""
        try:
            self.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was first
