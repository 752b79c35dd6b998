"""Asks the root helper over its socket, and passes on what it says on the way."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shells.helper.ahead import ROOT_SOCKET, connected
from shells.helper.request import Request, encode
from state.errors import LxcGpuError, Remedy
from state.wire import messages

SOON, SELDOM = 0.2, 3.0
"""Seconds until it is asked again, at first and in the end: each time is a program of root's."""
Show = Callable[[messages.Progress], None]
STDOUT = 1
_GONE = select.POLLERR | select.POLLHUP
"""What poll(2) says of a pipe or socket whose other end is closed."""


def ask(
    request: Request, show: Show, descriptor: int | None = None
) -> messages.Answer | messages.Question | messages.Report:
    """The end of the answer; progress goes to `show`. LxcGpuError if it was refused or failed.

    `descriptor` goes along with the request. BrokenPipeError as soon as nobody hears what this
    program says: sshd tells a program without a terminal no other way that its person has gone.
    """
    with _sent(request, descriptor) as connection:
        for line in _lines(connection):
            message = messages.decode(line)
            if isinstance(message, messages.Progress):
                show(message)
            elif isinstance(message, messages.Refusal):
                raise message.error()
            else:
                return message
    raise LxcGpuError(
        "helper-died",
        "The work on this server ended without an answer.",
        "Try again; sysadmin: `journalctl -t lxc-gpu` says why.",
        Remedy.RETRY,
    )


def ask_until_free(
    request: Request, show: Show, seconds: float
) -> messages.Answer | messages.Question | messages.Report:
    """Ask, and ask again while the answer is `busy`; after so many seconds, LxcGpuError says so.

    The asker's places are taken then, or other work is under way.
    """
    deadline, pause = time.monotonic() + seconds, SOON
    while True:
        try:
            return ask(request, show)
        except LxcGpuError as error:
            if error.code != "busy" or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, SELDOM)


def _sent(request: Request, descriptor: int | None) -> socket.socket:
    """A connection over which the request was sent."""
    raw, descriptors = [encode(request)], [] if descriptor is None else [descriptor]
    ahead = connected()
    if ahead is not None:
        connection = socket.socket(fileno=ahead)
        with suppress(ConnectionError):  # the helper has ended: this program took long to load
            socket.send_fds(connection, raw, descriptors)
            return connection
        connection.close()
    connection = _connection()
    with _read_by_it():
        socket.send_fds(connection, raw, descriptors)
    return connection


def _connection() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(ROOT_SOCKET)
    except OSError as error:
        connection.close()
        raise LxcGpuError(
            "helper-down",
            "The part of lxc-gpu that does the work on this server can't be reached.",
            "Sysadmin: `systemctl status lxc-gpu-root.socket`.",
            Remedy.WAIT,
            str(error),
        ) from error
    return connection


def _lines(connection: socket.socket) -> Iterator[bytes]:
    """What the helper says, line by line, until it ends."""
    rest, poll = b"", select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(STDOUT, 0)
    while len(rest) < messages.LONGEST_LINE:
        if any(each == STDOUT and event & _GONE for each, event in poll.poll()):
            raise BrokenPipeError
        with _read_by_it():
            chunk = connection.recv(1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


@contextmanager
def _read_by_it() -> Iterator[None]:
    """A connection that is reset was closed with the request unread (unix(7)): nothing was begun.

    systemd closes those beyond MaxConnections= so.
    """
    try:
        yield
    except ConnectionError as error:
        raise LxcGpuError(
            "busy",
            "This server has as many requests under way, of all its users, as it takes at once. "
            "Yours was not begun.",
            "Try again in a moment.",
            Remedy.WAIT,
            str(error),
        ) from error
