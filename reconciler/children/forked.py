"""A forked child: what it keeps open, what it says, its deadline and its end.

A fork has a copy of every descriptor, locks' included: a lock ends with the last copy (flock(2)).
A child that hangs in the kernel and can't be killed would hold its user's lock until the next boot.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import signal
import socket
import struct
import syslog
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn, Protocol

STDERR = 2
LONGEST = 1 << 24
"""Bytes of a line that a child says."""
FAILED = 126
"""How a child ends that neither became another program nor ended itself."""


class HasFileno(Protocol):
    """Something open."""

    def fileno(self) -> int:
        """Its descriptor."""


def readable(opened: Collection[int | HasFileno], seconds: float) -> frozenset[int]:
    """The descriptors of these that can be read, or have ended, within so many seconds."""
    poll = select.poll()  # select(2) takes no descriptors above 1023
    for each in opened:
        poll.register(each, select.POLLIN)
    return frozenset(descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000))


class Child:
    """One that was forked, by a descriptor (pidfd_open(2)): its number may become another's."""

    def __init__(self, act: Callable[[], object], kept: Collection[int]) -> None:
        """Fork a child that calls `act` with only the descriptors `kept` open, and ends then.

        OSError if it can't be started.
        """
        self.status: int | None = None
        """How it ended: its exit status, or minus the signal. None: not known to have ended."""
        self.pid = os.fork()
        if self.pid == 0:
            _act(act, kept)
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise

    def fileno(self) -> int:
        """Can be read from when the child has ended."""
        return self._descriptor

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it has, or does within so many seconds; then `status` says how."""
        if self.status is None and readable([self], seconds):
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.leave()
        return self.status is not None

    def kill(self, seconds: float) -> bool:
        """End it; whether it has ended within so many seconds. In D state it doesn't (ps(1))."""
        if not self.has_ended():
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        return self.has_ended(seconds)

    def leave(self) -> None:
        """Let go of it, ended or not."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _act(act: Callable[[], object], kept: Collection[int]) -> NoReturn:
    try:
        keep_only(kept)
        act()
    finally:  # it must never return into the caller
        os._exit(FAILED)


class Lines:
    """What a child says over a socket, line by line, and the descriptors that it sends along."""

    def __init__(self, channel: socket.socket) -> None:
        """`channel` is this side's end."""
        self.channel = channel
        self.descriptors = list[int]()
        self._raw = bytearray()

    def next(self, seconds: float) -> bytes | None:
        """The next line with its end. None: not within `seconds`.

        Empty at the end of all, and for a line of more than LONGEST bytes. OSError if a descriptor
        was sent for which there is no room.
        """
        until = time.monotonic() + seconds
        seen = 0
        while (end := self._raw.find(b"\n", seen)) < 0:
            if not readable([self.channel], until - time.monotonic()):
                return None
            chunk, sent, flags = b"", list[int](), 0
            with suppress(ConnectionResetError):  # it ended before it read what was said to it
                chunk, sent, flags, _ = socket.recv_fds(self.channel, 1 << 16, 1)
            for descriptor in sent:
                os.set_inheritable(descriptor, False)
            self.descriptors += sent
            if flags & socket.MSG_CTRUNC:  # recv(2)
                raise OSError(errno.EMFILE, "no room for a descriptor that was sent")
            if not chunk:
                return b""
            seen = len(self._raw)
            self._raw += chunk
            if len(self._raw) > LONGEST:
                return b""
        line = bytes(self._raw[: end + 1])
        del self._raw[: end + 1]
        return line


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
