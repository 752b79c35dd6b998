"""How long a conversation with the directory may take, and how much the directory may say.

ldap3's time limits hold for one recv(2) each: a directory that sends a byte a second, or garbage
without an end, would be listened to for ever, and its thread with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

AT_ONCE = 65536
"""Bytes."""


class ConversationLimits:
    """What is left of one conversation, over all of its connections."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds, self._size = seconds, size
        self._until = time.monotonic() + seconds
        self._left = size

    def seconds(self) -> float:
        """Seconds that are left. TimeoutError if none are."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no end after {self._seconds:g} s")
        return left

    def take(self, size: int) -> None:
        """Count so many bytes. OSError if that is too many."""
        self._left -= size
        if self._left < 0:
            raise OSError(f"more than {self._size} bytes")


class LimitedSocket:
    """A socket of a conversation: whatever waits on it ends with the conversation."""

    def __init__(self, real: socket.socket, allowance: ConversationLimits) -> None:
        self._real = real
        self._allowance = allowance
        self._timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        """The most that one call may take, within what is left."""
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
        """See socket.recv. More than `size` may come: ldap3 joins what it gets piece by piece."""
        self._limit()
        data = self._real.recv(max(size, AT_ONCE))
        self._allowance.take(len(data))
        return data

    def wrapped(self, wrap: Callable[[socket.socket], socket.socket]) -> LimitedSocket:
        """The same conversation after `wrap`, which may shake hands."""
        self._limit()
        return LimitedSocket(wrap(self._real), self._allowance)

    def _limit(self) -> None:
        left = self._allowance.seconds()
        self._real.settimeout(left if self._timeout is None else min(left, self._timeout))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
