"""Finds the users whose containers have an open connection through a mapped port, even a quiet one.

Two lists of the kernel are read, because each lacks something. The list of tracked connections
forgets those that were silent for five days (nf_conntrack_tcp_timeout_established). The list of a
container's sockets lacks connections that are passed on to a container inside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.container.running import inits
from reconciler.network import conntrack, forwards
from state.errors import LxcGpuError
from state.view import View

SSH = 22
LONGEST = 4 << 20
"""Bytes that are read of a container's list: 25,000 sockets. A container with more counts as
connected."""
_ESTABLISHED = "01"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def connected(view: View, users: Collection[str]) -> Mapping[str, bool | None]:
    """For each of these running containers, whether somebody is connected; None: not known."""
    addresses = {user: view.residents[user].address for user in users}
    try:
        through = conntrack.connected_to(addresses.values())
        mapped = forwards.read().of
        pids = inits(users)
    except (OSError, LxcGpuError):
        return dict.fromkeys(users)
    found: dict[str, bool | None] = {}
    for user in users:
        ports = {SSH, *(f.to_port for f in mapped.get(user, ()))}
        inside = _inside(pids[user], ports) if user in pids else None
        found[user] = True if addresses[user] in through else inside
    return found


def _inside(pid: int, ports: Collection[int]) -> bool | None:
    """Whether a container's sockets show a connection; None if they can't be read."""
    try:
        for name in ("tcp", "tcp6"):
            with suppress(FileNotFoundError), Path(f"/proc/{pid}/net/{name}").open("rb") as stream:
                raw = stream.read(LONGEST)
                if len(raw) == LONGEST or any(map(ports.__contains__, connected_ports(raw))):
                    return True
    except OSError:  # the container ends just now
        return None
    return False


def connected_ports(raw: bytes) -> Iterator[int]:
    """The local ports with open connections, by /proc/net/tcp (proc_net_tcp.rst). Pure."""
    for line in raw.decode("ascii", "replace").splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != _ESTABLISHED:
            continue
        if fields[2].partition(":")[0] not in _LOOPBACK:
            with suppress(ValueError):
                yield int(fields[1].partition(":")[2], 16)
