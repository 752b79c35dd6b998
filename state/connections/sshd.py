"""Finds the connections that sshd holds open for our accounts, and ends those that are to end.

sshd writes what let somebody in to a file of the account's, and names it in the environment of what
it starts (sshd_config(5), ExposeAuthInfo). Nobody from outside can change either: in these accounts
only our programs run. Of a connection over which nothing runs, the keys are unknown. Standard
library only.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from state.connections import processes
from state.connections.keys import Opened, keys_in
from state.connections.processes import Process, uid_of
from state.errors import LxcGpuError

AUTH = "SSH_USER_AUTH"
"""The variable that names the file (ssh(1), ENVIRONMENT)."""
AUTH_FILE = re.compile(r"/tmp/sshauth\.[A-Za-z0-9]{15}", re.ASCII)  # noqa: S108
"""What sshd calls it (session.c of OpenSSH, prepare_auth_info_file)."""
INIT = 1
"""Above whom the parent left alone: it tells nothing."""
SSHD = frozenset({"sshd", "sshd-session"})
"""The programs that serve a connection: the second since OpenSSH 9.8."""


@dataclass(frozen=True)
class Connection:
    """An open connection to an account."""

    account: str
    opened: Opened
    monitor: Process
    """Root's sshd of this connection."""
    child: Process
    """The account's sshd, which speaks with the client."""
    over: tuple[Process, ...]
    """What runs over it."""


def must_stand(
    pid: int, file: Path, environment: Mapping[str, str] | None = None
) -> frozenset[str]:
    """The keys by which the connection came in for which a process speaks, where they are known.

    LxcGpuError if they no longer open its account. `file` says what opens it; `environment` is the
    process's own, if it is known. What no sshd of the account started was started by root, and
    passes.
    """
    try:
        known = processes.environment_of(pid) if environment is None else environment
        opened = _opened_by(pid, known)
    except OSError:  # it is gone already
        opened = Opened()
    if opened is not None and not opened.stands(keys_in(file)):
        raise LxcGpuError(
            "key-revoked",
            "The key that opened this connection no longer opens this account.",
            "Connect again, with a key that does. If your ssh kept an older connection open "
            "(ControlMaster): `ssh -O exit HOST` first.",
        )
    return opened.keys if opened is not None else frozenset()


def _opened_by(pid: int, environment: Mapping[str, str]) -> Opened | None:
    """How the connection of a process was opened; None: sshd didn't start it for its account."""
    if "SSH_CONNECTION" not in environment:
        return None
    if keys := _keys_taken(pid, environment, uid_of(pid)):
        return Opened(keys, running=processes.command_line_of(pid))
    everything = processes.everything()
    for above in processes.ancestors(pid, everything):
        if above.pid != INIT and uid_of(above.pid) != uid_of(pid):
            return None  # a sysadmin became this account, perhaps in a terminal that lives on
        if above.name in SSHD:
            monitor = everything.get(above.parent)
            return Opened(began=monitor.began if monitor else 0.0)
    return Opened()  # sshd has ended


def connections(accounts: Mapping[int, str]) -> Iterator[Connection]:
    """The open connections to these accounts, by uid; never root's own.

    Of the two sshd of a connection one is root's, and neither is in a container: for root, by
    their executables and namespaces. Others can't see those, and may end only what is their own.
    """
    everything = processes.everything()
    below: dict[int, list[Process]] = {}
    for each in everything.values():
        below.setdefault(each.parent, []).append(each)
    for child in everything.values():
        monitor = everything.get(child.parent)
        if child.name not in SSHD or monitor is None or monitor.name not in SSHD:
            continue
        with suppress(OSError):  # it ended meanwhile
            uid = uid_of(child.pid)
            if uid <= 0 or uid not in accounts or uid_of(monitor.pid) != 0:
                continue
            if _is_sshd(child) and _is_sshd(monitor):
                started = below.get(child.pid, [])
                opened = _opened(uid, started, monitor.began)
                over = tuple(_trees(started, below))
                yield Connection(accounts[uid], opened, monitor, child, over)


def end(doomed: Collection[Connection]) -> None:
    """End connections, with what runs over them."""
    asked = [process for each in doomed for process in (*each.over, each.child)]
    processes.end(asked, [each.monitor for each in doomed])  # which takes leave of PAM


def _is_sshd(process: Process) -> bool:
    if os.geteuid() != 0:
        return True
    pid = process.pid
    return processes.program_of(pid) in SSHD and processes.is_outside_containers(pid)


def _trees(tops: Sequence[Process], below: Mapping[int, Sequence[Process]]) -> Iterator[Process]:
    for top in tops:
        yield top
        yield from _trees(below.get(top.pid, ()), below)


def _opened(uid: int, started: Collection[Process], began: float) -> Opened:
    for each in started:
        with suppress(OSError):
            if keys := _keys_taken(each.pid, processes.environment_of(each.pid), uid):
                return Opened(keys, began, processes.command_line_of(each.pid))
    return Opened(began=began)


def _keys_taken(pid: int, environment: Mapping[str, str], uid: int) -> frozenset[str]:
    """The keys in the file of sshd's that a process was told of; none if it isn't the account's."""
    name = environment.get(AUTH, "")
    if AUTH_FILE.fullmatch(name) is None:
        return frozenset()
    seen = f"/proc/{pid}/root{name}"  # its /tmp, where services have one of their own
    try:
        descriptor = os.open(seen, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return frozenset()
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
            return frozenset()
        words = [line.split() for line in stream.read(processes.MOST).splitlines()]
    return frozenset(" ".join(each[1:3]) for each in words if each[:1] == ["publickey"])
