"""What one look sees of who uses their containers: GPUs, CPU time, logins, connections.

Of a container's own doing only what it calls its sshd's programs and its control groups is read,
and both speak of nothing but itself: whoever lies about them is named too early, or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Thread

from reconciler.host import locks, places
from reconciler.load import connections, idleness, processes
from reconciler.load.idleness import Activity
from reconciler.load.owners import Owners
from reconciler.load.processes import PROC, Process
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import driver
from state.errors import LxcGpuError
from state.view import View

HIERARCHIES = tuple(map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd")))
"""Where systemd's control groups are: with cgroup v2, and with v1 or both."""
GROUPS = "lxc.slice/lxc-gpu.slice/{unit}/lxc.payload.{user}/user.slice"
"""The control group of a container's people: setup/units/lxc-gpu@.service, lxc.container.conf(5),
systemd.special(7)."""
MOST_INSIDE = 200
"""Entries of that group that are read: its own files, and a group for each who is logged in."""
PATIENCE = 2.0
"""Seconds to read what the sshd programs of one container are called."""
LONGEST_TITLE = 200
"""Bytes."""
_SSHD = ("sshd", "sshd-session")
_SESSION = re.compile(rb"sshd(-session)?: [^\s/\[\]@]+(@[a-z0-9/,]+)?")
"""What sshd(8) calls the program of a login: `sshd: ann@pts/0`, from OpenSSH 9.8 on
`sshd-session: ann@notty`; without a command or terminal (`ssh -N`), without `@`. Who isn't in yet
has `[priv]`, `[net]` or `[preauth]` behind the name, the one that listens a path."""


def seen(view: View) -> dict[str, Activity]:
    """What is to be seen of the containers that run, by user."""
    starts = {user: idleness.present_start(user) for user in view.residents}
    starts = {user: start for user, start in starts.items() if start}
    if not starts:
        return {}
    everything = processes.read()
    on_gpus = _on_gpus(view, everything)
    by_user = _inside(view, everything)
    connected = connections.connected(view, list(starts))
    return {
        user: Activity(
            start=start,
            gpu=None if on_gpus is None else user in on_gpus,
            login=_any_session([p.pid for p in by_user.get(user, ()) if p.command in _SSHD])
            or locks.any_held(locks.shell_place(user), locks.SHELLS_OF_ONE),
            cpu=cpu_time(by_user.get(user, ())),
            sessions=sessions(user),
            connected=connected[user],
            came_back=idleness.came_back(user, start),
        )
        for user, start in starts.items()
    }


def _inside(view: View, everything: Mapping[int, Process]) -> dict[str, list[Process]]:
    """What runs in containers, by user; a user's own account of the server is no container."""
    owners, found = Owners(view), dict[str, list[Process]]()
    for process in everything.values():
        user = owners.of(process.uid)
        if user is not None and process.uid != view.residents[user].uid:
            found.setdefault(user, []).append(process)
    return found


def cpu_time(inside: Iterable[Process]) -> float:
    """Seconds of CPU time that a container has used since its start. Pure.

    What ended counts with its parent, in the end with the container's init, so that nothing is lost
    however short it lived.
    """
    return sum(process.cpu + process.ended_cpu for process in inside)


def _on_gpus(view: View, everything: Mapping[int, Process]) -> Collection[str] | None:
    """Who has a program on a GPU; None if the driver doesn't say. Without one, nobody has."""
    if not driver().present:
        return ()
    try:
        pids = {each.pid for gpu in nvml.read().gpus for each in gpu.processes}
    except LxcGpuError:
        return None
    owners = Owners(view)
    users = {owners.of(process.uid) for pid, process in everything.items() if pid in pids}
    return {user for user in users if user is not None}


def _any_session(pids: list[int]) -> bool:
    """Whether one of these is a login's. Titles that can't be read soon are none.

    Who controls the memory that a title lies in may let a reader wait: then the thread is left
    behind, and ends with us.
    """
    found: list[bool] = []
    reader = Thread(target=lambda: found.append(any(map(_is_session, pids))), daemon=True)
    reader.start()
    reader.join(PATIENCE)
    return found == [True]


def _is_session(pid: int) -> bool:
    with suppress(OSError), (PROC / str(pid) / "cmdline").open("rb", buffering=0) as stream:
        return is_session(stream.read(LONGEST_TITLE))
    return False


def is_session(title: bytes) -> bool:
    """Whether this is what the program of an ssh login calls itself. Pure."""
    return _SESSION.fullmatch(title.rstrip(b"\0 ")) is not None


def sessions(user: str) -> int:
    """Another number whenever somebody logged in or out, or began a `shell`; 0 if nobody ever did.

    A sum of times, so that each of them alone changes it, whatever the other is.
    """
    began = locks.last_taken(locks.shell_place(user), locks.SHELLS_OF_ONE)
    return _logged_in_or_out(user) + began


def _logged_in_or_out(user: str) -> int:
    """When somebody last did, in nanoseconds by the server's clock; 0 if never.

    The container's logind has a control group for everybody who is logged in, below user.slice,
    and in it one for each session: the kernel notes when one comes or goes. So a login leaves a
    trace that was over before a look.
    """
    for hierarchy in HIERARCHIES:
        slice_ = hierarchy / GROUPS.format(unit=places.container_unit(user), user=user)
        with suppress(OSError), os.scandir(slice_) as inside:  # it may hold a million of them
            people = [Path(each.path) for each in islice(inside, MOST_INSIDE) if each.is_dir()]
            return max(map(_changed, [slice_, *people]))
    return 0


def _changed(group: Path) -> int:
    with suppress(FileNotFoundError):  # whose last session ends just now
        return group.stat().st_mtime_ns
    return 0
