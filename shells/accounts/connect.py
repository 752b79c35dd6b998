"""`connect`: a pipe to the sshd of one's container, which is started first. For ssh's ProxyCommand.

Runs as the user; only the start is asked of the root helper. What goes through is encrypted from
end to end: here it is bytes.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

from shells.helper.client import ask_until_free
from shells.helper.request import Request
from shells.terminal import Terminal
from shells.usage import Verb
from state.errors import LxcGpuError
from state.wire.messages import Answer

SSH = 22
AT_ONCE = 1 << 18
"""Bytes that are read at a time, at most."""
PATIENCE = 60.0
"""Seconds to wait while other work on the container refuses requests."""
QUIET = 30
"""Seconds without a word after which the other end is asked for a sign of life."""
SIGNS = 4
"""Signs of life that may fail to come, `QUIET` apart: then it is gone."""


def connect(terminal: Terminal) -> int:
    """Start the container if need be, then pass bytes on until either side ends."""
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise LxcGpuError(
            "usage",
            "`connect` is for ssh itself, as a ProxyCommand: it passes bytes on to your container.",
            "To log in, type `ssh SERVER`. `help connect` says how to use it.",
        )
    address = _started(terminal)
    try:
        connection = socket.create_connection((address, SSH), timeout=5)
    except OSError as error:
        raise LxcGpuError(
            "sshd-silent",
            f"The sshd of your container doesn't answer: {error.strerror or error}.",
            "Try `restart`.",
        ) from error
    with connection:
        connection.settimeout(None)
        _notice_death(connection)
        _pass_on(connection, sys.stdin.fileno(), sys.stdout.fileno())
    return 0


def _started(terminal: Terminal) -> str:
    """The address of the container, whose sshd answers."""
    # editors open several connections at once: they start a stopped container together
    start = Request(Verb.START, options={"quick": ""})
    answer = ask_until_free(start, terminal.progress, PATIENCE)
    if not isinstance(answer, Answer):
        raise LxcGpuError("helper-died", "The start ended without an answer.", "Try again.")
    return str(answer.facts["address"])


def _notice_death(connection: socket.socket) -> None:
    """Have the kernel end it when the container is gone without a word (tcp(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, QUIET),
        (socket.TCP_KEEPINTVL, QUIET),
        (socket.TCP_KEEPCNT, SIGNS),
        (socket.TCP_USER_TIMEOUT, QUIET * SIGNS * 1000),
        (socket.TCP_NODELAY, 1),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _pass_on(connection: socket.socket, source: int, target: int) -> None:
    """Both ways at once; ends when the container says no more, or nobody listens to it."""
    there = threading.Thread(target=_send, args=(source, connection), daemon=True)
    there.start()
    buffer = memoryview(bytearray(AT_ONCE))
    with suppress(OSError):  # either end is gone: so is the other one
        while length := connection.recv_into(buffer):
            left = buffer[:length]
            while left:
                left = left[os.write(target, left) :]


def _send(source: int, connection: socket.socket) -> None:
    """What the user's ssh says; its end is passed on, the answer may still come."""
    buffer = memoryview(bytearray(AT_ONCE))
    with suppress(OSError):
        while length := os.readv(source, [buffer]):
            connection.sendall(buffer[:length])
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
