"""The ports by which running containers are attached to the bridge, as the kernel shows them.

lxc-user-nic(1) makes a pair of veth(4) for each start, puts one end on the bridge and the other in
the container. The server's end is called `veth<uid>_XXXX`, which containers can't choose.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from reconciler.host.places import BRIDGE
from reconciler.network.rtnetlink import LINKS, asked, attribute, attributes

_NAME = re.compile(r"veth(\d+)_\w+", re.ASCII)
_UID = re.compile(rb"veth(\d+)_")
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg (rtnetlink(7))."""
_IFNAME, _PEER, _MASTER, _LINKINFO, _NETNSID = 3, 5, 10, 18, 37
"""IFLA_IFNAME, IFLA_LINK, ..., IFLA_LINK_NETNSID."""
_KIND, _SLAVE_DATA, _MODE = 1, 5, 4
"""IFLA_INFO_KIND and IFLA_INFO_SLAVE_DATA within IFLA_LINKINFO; IFLA_BRPORT_MODE, the hairpin."""


class Port(NamedTuple):
    """The server's end of a container's network interface."""

    name: str
    uid: int
    """The uid of the container's user."""
    peer: int
    """The number of the other end in the container's network namespace."""
    on_bridge: bool
    hairpin: bool
    """Whether frames may leave by the port that they came in by (bridge(8))."""


def ports(uids: Collection[int] | None = None) -> tuple[Port, ...]:
    """Every port whose other end is in a container, or those of some users' containers.

    LxcGpuError if the kernel can't be asked.

    A port whose other end is still here is being made: lxc-user-nic would fail if somebody else
    put it on the bridge first (EBUSY, br_add_if in net/bridge/br_if.c).
    """
    bridge = 0
    with suppress(OSError):  # there is none
        bridge = socket.if_nametoindex(BRIDGE)

    def read(answer: bytes) -> Port | None:
        of = _UID.search(answer)  # to read all of an answer takes 0.1 ms
        if uids is None or (of is not None and int(of[1]) in uids):
            return port_of(attributes(answer[_LINK.size :]), bridge)
        return None

    veths = attribute(_LINKINFO, attribute(_KIND, b"veth"))
    return asked(LINKS, _LINK.pack(0, 0, 0, 0, 0) + veths, read)


def port_of(link: Mapping[int, bytes], bridge: int) -> Port | None:
    """The port that has these attributes, None if it is none. `bridge`: its number. Pure."""
    match = _NAME.fullmatch(link.get(_IFNAME, b"").rstrip(b"\0").decode("ascii", "replace"))
    if match is None or _NETNSID not in link:
        return None
    on_bridge = bridge > 0 and _number(link.get(_MASTER, b"")) == bridge
    slave = attributes(attributes(link.get(_LINKINFO, b"")).get(_SLAVE_DATA, b""))
    hairpin = on_bridge and any(slave.get(_MODE, b""))
    return Port(match[0], int(match[1]), _number(link.get(_PEER, b"")), on_bridge, hairpin)


def _number(raw: bytes) -> int:
    return int(struct.unpack("=I", raw)[0]) if raw else 0
