"""Looks which containers are in use: GPUs, CPU time, logins, connections.

A container can forge only the titles of its sshd's programs and its control groups. Both concern
itself alone: it is then named idle too early, or never.
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
from reconciler.load.processes import PROC, ProcessUsage
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import driver
from state.errors import LxcGpuError
from state.view import View

HIERARCHIES = tuple(map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd")))
"""Where systemd's control groups are: with cgroup v2, and with v1 or both."""
GROUPS = "lxc.slice/lxc-gpu.slice/{unit}/lxc.payload.{user}/user.slice"
"""The control group of the people logged in to a container: setup/units/lxc-gpu@.service,
lxc.container.conf(5), systemd.special(7)."""
MOST_INSIDE = 200
"""Entries of that group that are read: its own files, and a group for each person logged in."""
PATIENCE = 2.0
"""Seconds that reading the titles of one container's sshd programs may take."""
LONGEST_TITLE = 200
"""Bytes of a title that are read."""
_SSHD = ("sshd", "sshd-session")
_SESSION = re.compile(rb"sshd(-session)?: [^\s/\[\]@]+(@[a-z0-9/,]+)?")
"""The title of a login's sshd(8) program: `sshd: ann@pts/0`, from OpenSSH 9.8 on `sshd-session:
ann@notty`; without `@` if there is no command or terminal (`ssh -N`). Before authentication,
`[priv]`, `[net]` or `[preauth]` follows the name. The listening program's title has a path."""


def seen(view: View) -> dict[str, Activity]:
    """The activity of the containers that run, by user."""
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


def _inside(view: View, everything: Mapping[int, ProcessUsage]) -> dict[str, list[ProcessUsage]]:
    """The processes in containers, by user. Those of users' accounts on the server are left out."""
    owners, found = Owners(view), dict[str, list[ProcessUsage]]()
    for process in everything.values():
        user = owners.of(process.uid)
        if user is not None and process.uid != view.residents[user].uid:
            found.setdefault(user, []).append(process)
    return found


def cpu_time(inside: Iterable[ProcessUsage]) -> float:
    """Seconds of CPU time that a container has used since its start. Pure.

    The time of ended processes counts with their parent, in the end with the container's init, so
    none is lost, however short they lived.
    """
    return sum(process.cpu + process.ended_cpu for process in inside)


def _on_gpus(view: View, everything: Mapping[int, ProcessUsage]) -> Collection[str] | None:
    """The users with a program on a GPU; None if the driver doesn't say; none without a driver."""
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
    """Whether one of these processes is a login. Titles that can't be read in time don't count.

    The owner of a process can make reading its title hang. The thread is then left behind, and ends
    with this program.
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
    """Whether this is the title of an ssh login's program. Pure."""
    return _SESSION.fullmatch(title.rstrip(b"\0 ")) is not None


def sessions(user: str) -> int:
    """A number that changes whenever somebody logs in or out, or begins a `shell`; 0: nobody ever
    did.

    It is the sum of two times, so a change of either changes it.
    """
    began = locks.last_taken(locks.shell_place(user), locks.SHELLS_OF_ONE)
    return _logged_in_or_out(user) + began


def _logged_in_or_out(user: str) -> int:
    """When somebody last logged in or out, in nanoseconds by the server's clock; 0: never.

    The container's logind makes a control group below user.slice for each person who is logged in,
    and one in it for each session. The kernel dates their coming and going, so even a login that
    ended before the look leaves a trace.
    """
    for hierarchy in HIERARCHIES:
        slice_ = hierarchy / GROUPS.format(unit=places.container_unit(user), user=user)
        # the container may have made a million of them
        with suppress(OSError), os.scandir(slice_) as inside:
            people = [Path(each.path) for each in islice(inside, MOST_INSIDE) if each.is_dir()]
            return max(map(_changed, [slice_, *people]))
    return 0


def _changed(group: Path) -> int:
    with suppress(FileNotFoundError):  # the last session ends just now
        return group.stat().st_mtime_ns
    return 0
