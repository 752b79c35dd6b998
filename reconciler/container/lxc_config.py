"""The LXC configuration of a user's container: root's, rendered anew at each start.

Keys as in lxc.container.conf(5). Address and MAC are fixed: nothing inside has to ask for one, and
the bridge lets no other through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reconciler.container import shared_memory
from reconciler.host.places import BRIDGE, SECCOMP
from reconciler.mounts.bind import Bind
from reconciler.network.filters import mac_of
from state.view import Resident, View

UNCOVERED = (
    "proc dev/.lxc/proc proc create=dir,optional 0 0",
    "sys dev/.lxc/sys sysfs create=dir,optional 0 0",
)
"""A proc and a sysfs with nothing mounted over them, as in LXC's nesting.conf: without them, the
kernel lets no namespace below mount its own (mount_too_revealing in its fs/namespace.c)."""
_MAC = re.compile(r"^lxc\.net\.0\.hwaddr = ((?:[0-9a-f]{2}:){5}[0-9a-f]{2})$", re.ASCII | re.M)

_RESOLVERS = "# its resolv.conf: "


def mac_line(mac: str) -> str:
    """The line that sets the MAC of the container's network interface."""
    return f"lxc.net.0.hwaddr = {mac}"


def mac_in(config: str) -> str | None:
    """The MAC in a configuration; None if a release wrote it that set none. Pure."""
    found = _MAC.search(config)
    return found[1] if found else None


def resolvers_line(resolv_conf: str) -> str:
    """A comment for the configuration that notes the resolvers of this start."""
    return f"{_RESOLVERS}{'; '.join(resolv_conf.splitlines())}\n"


def resolvers_in(config: str) -> str | None:
    """The resolvers that a configuration notes; None if an earlier release wrote it. Pure."""
    return next(
        (f"{line}\n" for line in config.splitlines() if line.startswith(_RESOLVERS.rstrip())), None
    )


def hostname(view: View, user: str) -> str:
    """The container's host name; the prompt shows whose it is, and where."""
    return f"{user.replace('_', '-')}-{view.server}"[:63]


def lxc_config(
    view: View,
    user: str,
    resident: Resident,
    root: Path,
    binds: Sequence[Bind],
    hook: str = "",
    apparmor: str = "unconfined",
) -> str:
    """The whole configuration, including what the container sees of the server.

    `root` is the folder that becomes its `/` (reconciler.systems.attached).
    `apparmor` is the profile that confines it, besides its user namespace
    (reconciler.container.apparmor).
    `hook` is run inside, as the container's root, when all is mounted and before its init.
    """
    lines = [
        "# Written by lxc-gpu at each start of the container: changes made here are undone.",
        "lxc.include = /usr/share/lxc/config/common.conf",
        "lxc.include = /usr/share/lxc/config/userns.conf",
        f"lxc.uts.name = {hostname(view, user)}",
        f"lxc.rootfs.path = dir:{root}",
        f"lxc.idmap = u 0 {resident.subid} {view.subid_size}",
        f"lxc.idmap = g 0 {resident.subid} {view.subid_size}",
        *_network(view, resident),
        f"lxc.apparmor.profile = {apparmor}",
        f"lxc.seccomp.profile = {SECCOMP}",
        # else LXC leaves it out where the server has one itself: a unit with filters, a container
        "lxc.seccomp.allow_nesting = 1",
        "lxc.tty.max = 0",
    ]
    memory = resident.limits.over(view.limits).memory
    lines += [f"lxc.mount.entry = {shared_memory.mount_entry(memory)}"]
    lines += [f"lxc.mount.entry = {entry}" for entry in UNCOVERED] if view.nesting else []
    lines += [f"lxc.mount.entry = {bind.entry()}" for bind in binds]
    lines += [f"lxc.hook.start = {hook}"] if hook else []
    return "".join(f"{line}\n" for line in lines)


def _network(view: View, resident: Resident) -> list[str]:
    return [
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {BRIDGE}",
        "lxc.net.0.name = eth0",
        "lxc.net.0.flags = up",
        mac_line(mac_of(resident.address)),
        f"lxc.net.0.ipv4.address = {resident.address}/{view.prefix_length}",
        f"lxc.net.0.ipv4.gateway = {view.gateway}",
        # Anybody inside may ping. Debian 13's ping has no capability of its own, and systemd's
        # range (0 2147483647) is refused: each end must be an id of the container's (icmp(7)).
        f"lxc.sysctl.net.ipv4.ping_group_range = 0 {view.subid_size - 1}",
    ]
