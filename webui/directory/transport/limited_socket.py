"""Limits in time and size for a conversation with the directory.

ldap3's time limits apply to each recv(2) alone. A directory that sends a byte a second, or endless
garbage, would occupy its thread forever.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

AT_ONCE = 65536
"""Bytes that are read at a time."""


class ConversationLimits:
    """The time and the bytes that one conversation has left, over all of its connections."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds, self._size = seconds, size
        self._until = time.monotonic() + seconds
        self._left = size

    def seconds(self) -> float:
        """The seconds that are left. TimeoutError if there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no end after {self._seconds:g} s")
        return left

    def take(self, size: int) -> None:
        """Count `size` bytes. OSError if that exceeds the limit."""
        self._left -= size
        if self._left < 0:
            raise OSError(f"more than {self._size} bytes")


class LimitedSocket:
    """A socket whose calls end, at the latest, when the conversation's limits are reached."""

    def __init__(self, real: socket.socket, allowance: ConversationLimits) -> None:
        self._real = real
        self._allowance = allowance
        self._timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        """Limit each call to `seconds`, and to what is left of the conversation."""
        self._timeout = seconds

    def connect(self, place: Any) -> None:
        """See socket.connect."""
        self._limit()
        self._real.connect(place)

    def sendall(self, data: bytes) -> None:
        """See socket.sendall."""
        self._limit()
        self._real.sendall(data)

    def recv(self, size: int) -> bytes:
        """See socket.recv; may return more than `size` bytes, which ldap3 joins to one message."""
        self._limit()
        data = self._real.recv(max(size, AT_ONCE))
        self._allowance.take(len(data))
        return data

    def wrapped(self, wrap: Callable[[socket.socket], socket.socket]) -> LimitedSocket:
        """The socket that `wrap` makes of this one (TLS), under the same limits."""
        self._limit()
        return LimitedSocket(wrap(self._real), self._allowance)

    def _limit(self) -> None:
        left = self._allowance.seconds()
        self._real.settimeout(left if self._timeout is None else min(left, self._timeout))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
