"""`shell`: runs a program in the user's container as its root, without the container's sshd.

The caller lends one end of a pair of sockets. Once the child is inside the container, it reads from
there what to run, and hands out the other ends of its streams. All streams are made inside, so the
container never gets anything of the server's, least of all the caller's terminal.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import stat
import struct
import time

from reconciler.children import inside
from reconciler.children.forked import Child
from reconciler.host.locks import SHELLS_OF_ONE, one_of, shell_place
from reconciler.host.published import current_view, resident_of
from reconciler.plan import Tell
from reconciler.requests import power
from reconciler.requests.unit import power_of
from state import command
from state.errors import LxcGpuError, Remedy

PATIENCE = 10.0
"""Seconds that a container may take, from its start, to have an init."""
LONGEST = 1 << 16
"""Bytes of the caller's command; a longer one is refused."""
OF_ALL = 80
"""Shells of all users: the root helper's socket takes 200 requests, and the others are short."""
SHELLS = (("/bin/bash",), ("/bin/sh",))
"""What is run without a command: the first that exists. Not a login shell, whose start-up files may
be what is broken."""
_PTMX = "/dev/pts/ptmx"
_TIOCSCTTY, _TIOCSPTLCK, _TIOCGPTPEER = 0x540E, 0x40045431, 0x5441


def shell(user: str, ends: int, tell: Tell) -> int:
    """Run what the caller at `ends` says until it ends or the caller has gone. Its exit status.

    The container is started if need be, without waiting for its sshd. A status of 128 and more
    is the signal that ended the program, as shells count.
    """
    if not stat.S_ISSOCK(os.fstat(ends).st_mode):
        raise LxcGpuError("bad-request", "lxc-gpu doesn't know that request.")
    resident_of(current_view(), user)
    with one_of(shell_place(user), SHELLS_OF_ONE) as own, one_of("shell", OF_ALL) as free:
        if not own:
            raise _too_many(f"{SHELLS_OF_ONE} shells of yours are", "Leave one of them, then type")
        if not free:
            raise _too_many(f"{OF_ALL} shells of all users are", "Wait until one ends, then type")
        if not power_of(user).running:
            power.start(user, tell, reached=False)
        return _until_it_ends(_begun(user, ends), ends)


def _too_many(what: str, then: str) -> LxcGpuError:
    message = f"{what} open on this server, the most allowed."
    return LxcGpuError("busy", message, f"{then} the same again.", Remedy.WAIT)


def _begun(user: str, ends: int) -> Child:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return inside.started(user, lambda: _act(ends), kept=[ends], says=ends)
        except LxcGpuError as error:
            if error.code != "not-running" or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _until_it_ends(child: Child, ends: int) -> int:
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(ends, 0)  # told without being asked: the asker has gone
    poll.poll()
    if not child.has_ended() or child.status is None:
        inside.end(child)
        return 128
    return child.status if child.status >= 0 else 128 - child.status


def _act(ends: int) -> None:
    """Runs in the container, as its root, and becomes the program."""
    with socket.socket(fileno=ends) as asker:
        asked = json.loads(_line(asker))
        typed, terminal = str(asked["command"]), str(asked["terminal"])
        (_on_a_terminal if terminal else _on_pipes)(asker)
        programs = (("/bin/sh", "-c", "--", typed),) if typed.strip() else SHELLS
        _become(programs, environment(terminal))


def environment(terminal: str) -> dict[str, str]:
    """The program's environment: the terminal's kind, nothing else from outside. Pure."""
    given = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}
    given["PATH"] = command.SEARCH_PATH
    return {**given, "TERM": terminal} if terminal else given


def _line(asker: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        chunk = asker.recv(LONGEST)
        if not chunk or len(line) > LONGEST:
            os._exit(126)  # the asker has gone
        line += chunk
    return line


def _hand_out(asker: socket.socket, descriptors: list[int]) -> None:
    """Give the caller the other ends of the streams, and wait until it is ready."""
    socket.send_fds(asker, [b"\n"], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    if not asker.recv(1):
        os._exit(126)


def _on_pipes(asker: socket.socket) -> None:
    source, to_source = os.pipe2(os.O_CLOEXEC)
    from_output, output = os.pipe2(os.O_CLOEXEC)
    from_errors, errors = os.pipe2(os.O_CLOEXEC)
    _hand_out(asker, [to_source, from_output, from_errors])
    for stream, end in enumerate((source, output, errors)):
        os.dup2(end, stream)


def _on_a_terminal(asker: socket.socket) -> None:
    """Open a terminal of the container's devpts (pts(4), ioctl_tty(2)) as the controlling one."""
    master = os.open(_PTMX, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    _hand_out(asker, [master])
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(slave, stream)


def _become(programs: tuple[tuple[str, ...], ...], given: dict[str, str]) -> None:
    """Run the first program that exists. An OSError is said on the program's stderr."""
    failed: list[str] = []
    for argv in programs:
        try:
            os.execve(argv[0], argv, given)  # noqa: S606
        except OSError as error:
            failed.append(f"{argv[0]} can't be run in your container: {error.strerror}.\n")
    os.write(2, "".join(failed).encode())
    os._exit(127)
