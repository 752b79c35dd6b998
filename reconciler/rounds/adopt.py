"""Adapts what an earlier release left to this one; nothing that runs is touched.

`setup/gpu-server` calls this as soon as a release is in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from reconciler.container.lxc_config import mac_in, mac_line
from reconciler.container.running import inits, running_containers
from reconciler.host import locks, places
from reconciler.host.config import ServerConfig
from reconciler.host.published import published_view
from reconciler.network.filters import mac_of
from reconciler.network.ports import ports
from reconciler.rounds.newest import render_again
from state import command, files
from state.errors import LxcGpuError
from state.view import Resident

MULTICAST, OURS = 1, "02:00:"
"""The multicast bit of a MAC's first byte; the beginning of our MACs (`filters.mac_of`)."""


def adopt(config: ServerConfig) -> Iterator[str]:
    """Adapt everything. Yields what was done, in words."""
    if render_again(config):
        yield "write the view as this release reads it"
    view = published_view()
    residents = view.residents if view else {}
    for user in sorted(running_containers()):
        with locks.lock(locks.user_lock(user), wait=False) as alone:
            # other work on it starts it anew, or stops it for good
            if not alone or user not in running_containers():
                continue
            if not (places.RUNNING / user).exists():
                files.write_file(places.RUNNING / user, "")
                yield f"note that the container of {user} runs, to start it after a boot"
            if user in residents and (mac := _keep_mac(user, residents[user])):
                yield f"let the container of {user} keep the MAC {mac} until its next start"


def _keep_mac(user: str, resident: Resident) -> str | None:
    """Note the MAC of a container that was started without one of ours; None if it has one.

    The first release left it to the kernel, and let containers change it. So the container is
    believed, unless it claims another container's MAC: it gets no more than it had.
    """
    path = places.container_config(user)
    text = files.read_text(path)
    if text is None or mac_in(text) is not None:
        return None
    mac = _mac_inside(user, resident.uid)
    if mac is None or (mac.startswith(OURS) and mac != mac_of(resident.address)):
        return None
    if any(mac_in(files.read_text(other) or "") == mac for other in places.RUN.glob("*.config")):
        return None
    files.write_file(path, f"{text}{mac_line(mac)}\n")
    return mac


def _mac_inside(user: str, uid: int) -> str | None:
    """The MAC at the container's end of its cable, asked of the kernel in its network namespace.

    By the server's own ip(8): no program of the container is run, and no file of it is read.
    """
    peers = {port.peer for port in ports() if port.uid == uid}
    with suppress(LxcGpuError, OSError, ValueError, KeyError, IndexError):
        show = ["ip", "-json", "link", "show"]
        inside = command.run(["nsenter", f"--net=/proc/{inits([user])[user]}/ns/net", *show]).stdout
        for link in json.loads(inside):
            if link["ifindex"] in peers and not int(link["address"][:2], 16) & MULTICAST:
                return str(link["address"])
    return None
