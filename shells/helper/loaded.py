"""The root helper, loaded once: for each request it forks a child that needn't load it again.

The child does what the request's own process (`setup/executables/root`) would have done, and is to
the server what that one is: in the request's unit, with its bounds, its end and its name in the
journal; where it can't be just that, it does nothing. The process here reads no request, and keeps
nothing of one. All that it keeps are the published view and the kernel's rules, which its children
needn't read again while they are unchanged.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from reconciler.children.forked import readable
from reconciler.children.inside import others_of
from reconciler.requests.needed import remember
from reconciler.requests.power import LATER
from shells.helper import root
from shells.helper.hand_over import BEGUN, GO, PATIENCE, READY, SOCKET

LIFE = 3600.0
"""Seconds after which it ends, and systemd starts another one: libraries are upgraded, too."""
LONGEST = 1024
"""Bytes: the paths of a release and of a unit."""
OFTEN = (
    *LATER, "shells.commands.round", "shells.helper.rounds", "shells.verbs.gpus",
    "shells.verbs.sharing.reservations", "shells.verbs.sharing.reserve", "shells.verbs.snapshot",
    "shells.verbs.start", "shells.verbs.status",
)  # fmt: skip
"""What is loaded besides the root helper itself; all other verbs are loaded when asked for."""
OF_CHANGES = (
    "reconciler.systems.from_template", "ruamel.yaml", "state.git.healing", "state.git.news",
    "state.git.tree", "state.reading.load", "state.trust.walk",
)  # fmt: skip
"""What a round needs that finds something new: third parties' packages are among it."""
_STANDARD = (0, 1, 2)
_BOUNDS = (
    "Cap", "Cpus_allowed", "Gid", "Groups", "Mems_allowed", "NoNewPrivs", "Seccomp", "Uid", "Umask",
)  # fmt: skip
"""Lines of /proc/PID/status (proc(5))."""
_FILES = ("cgroup", "coredump_filter", "limits", "oom_score_adj")
_OF_ONE_PROCESS = (
    "FDSTORE", "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_", "MEMORY_PRESSURE_", "REMOTE_",
    "SO_COOKIE", "SYSTEMD_EXEC_PID", "TRIGGER_",
)  # fmt: skip
"""How variables begin that systemd sets for each process, and nobody reads (systemd.exec(5))."""
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def main(argv: Sequence[str]) -> int:
    """Fork for each request until it is time for another process. `argv`: our release's folder."""
    places = (sys.executable, *sys.path)  # now: packages add folders of theirs
    code = _code_in(places)
    for name in OFTEN:
        import_module(name)
    with suppress(Exception):  # a broken environment locks nobody out
        for name in OF_CHANGES:
            import_module(name)
    gc.collect()
    gc.freeze()  # children don't copy these pages only to look at them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children (sigaction(2))
    end = time.monotonic() + LIFE
    with _listening() as listener:
        _remember(listener)
        while (left := end - time.monotonic()) > 0:
            listener.settimeout(left)
            with suppress(OSError):  # no room for a child: the request's own process does it
                connection, _ = listener.accept()
                with connection:
                    if _code_in(places) != code:
                        break  # what isn't loaded yet is of another Python than what is
                    if os.fork() == 0:
                        listener.close()
                        _child(connection, argv[0])
                _remember(listener)
    return 0


def _remember(listener: socket.socket) -> None:
    """Read for the next request what it would read, unless one waits already."""
    if readable([listener], 0):
        return
    # where SIGCHLD is ignored, subprocess takes each program's end for a success
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        remember(PATIENCE / 8)
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that ended meanwhile
                pass


def _code_in(places: Sequence[str]) -> tuple[object, ...]:
    """What changes when Python, or packages, are installed anew: which each is, and since when."""
    seen = list[object]()
    for path in places:
        with suppress(FileNotFoundError):  # Python looks in an archive that isn't there
            status = Path(path).stat()
            seen.append((path, status.st_dev, status.st_ino, status.st_mtime_ns))
    return tuple(seen)


def _listening() -> socket.socket:
    Path(SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)  # for root alone
    listener.bind(SOCKET)
    os.umask(before)
    listener.listen(socket.SOMAXCONN)
    return listener


def _child(connection: socket.socket, release: str) -> None:
    """Do one request; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        time.tzset()  # the server may be in another time zone by now
        unit = _taken_over(connection, release)
        if unit is not None:
            status = root.main([unit])
            connection.send(bytes([status]))
    finally:
        os._exit(status)


def _taken_over(connection: socket.socket, release: str) -> str | None:
    """Become a process of the request's unit, with its connection; its name.

    None if it isn't to be done here, or no longer.
    """
    connection.settimeout(PATIENCE)
    size = struct.calcsize("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = struct.unpack("3i", raw)
    message, descriptors, _, _ = socket.recv_fds(connection, LONGEST, len(_STANDARD))
    wanted, _, unit = message.decode().partition("\n")
    if uid != 0 or wanted != release or len(descriptors) != len(_STANDARD):
        return None
    for standard, descriptor in zip(_STANDARD, descriptors, strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.setsid()
    _join_groups_of(pid)
    if _bounds(os.getpid()) != _bounds(pid):
        return None
    connection.send(READY)
    if connection.recv(len(GO)) != GO:
        return None
    connection.send(BEGUN)
    return unit


def _join_groups_of(pid: int) -> None:
    for path in others_of(Path(f"/proc/{pid}/cgroup").read_text()):
        with suppress(FileNotFoundError):  # a v1 hierarchy that is not mounted here
            path.write_text("0\n")


def _bounds(pid: int) -> tuple[object, ...]:
    """What holds a process: a sysadmin may have given the requests' unit other bounds than ours."""
    folder = Path(f"/proc/{pid}")
    texts = [(folder / name).read_text() for name in _FILES]
    with suppress(OSError):  # no such module in this kernel
        texts.append((folder / "attr/current").read_text())
    status = (folder / "status").read_text().splitlines()
    variables = os.fsdecode((folder / "environ").read_bytes()).split("\0")
    return (
        *texts,
        *(line for line in status if line.startswith(_BOUNDS)),
        *sorted(each for each in variables if not each.startswith(_OF_ONE_PROCESS)),
        *((folder / "ns" / name).readlink() for name in _NAMESPACES),
        os.getpriority(os.PRIO_PROCESS, pid),
        os.sched_getscheduler(pid),
        os.sched_getparam(pid).sched_priority,
    )
