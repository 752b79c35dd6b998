"""The ports by which running containers are attached to the bridge, as the kernel shows them.

lxc-user-nic(1) makes a pair of veth(4) for each start, puts one end on the bridge and the other in
the container. The server's end is called `veth<uid>_XXXX`, which containers can't choose.
The kernel is asked without a program, since each start waits for it (rtnetlink(7)).
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from reconciler.host.places import BRIDGE
from state.errors import LxcGpuError

_NAME = re.compile(r"veth(\d+)_\w+", re.ASCII)
_UID = re.compile(rb"veth(\d+)_")
_HEADER = struct.Struct("=IHHII")
"""Of a message: length, type, flags, sequence, port (netlink(7))."""
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg (rtnetlink(7))."""
_ATTRIBUTE = struct.Struct("=HH")
"""Length and type (netlink(7), struct nlattr)."""
_ERROR, _DONE, _NEW, _GET = 2, 3, 16, 18
_REQUEST, _DUMP, _INTERRUPTED = 1, 0x300, 0x10
_IFNAME, _PEER, _MASTER, _LINKINFO, _NETNSID = 3, 5, 10, 18, 37
"""IFLA_IFNAME, IFLA_LINK, ..., IFLA_LINK_NETNSID."""
_KIND, _SLAVE_DATA, _MODE = 1, 5, 4
"""IFLA_INFO_KIND and IFLA_INFO_SLAVE_DATA within IFLA_LINKINFO; IFLA_BRPORT_MODE, the hairpin."""
_TRIES = 10
"""How often the kernel is asked while interfaces come and go."""


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
    try:
        for _ in range(_TRIES):
            links = tuple(_links(uids))
            if None not in links:
                found = (port_of(link, bridge) for link in links if link is not None)
                return tuple(port for port in found if port is not None)
        raise OSError("interfaces come and go all the time")
    except (OSError, struct.error) as error:
        raise LxcGpuError(
            "system",
            "The kernel does not say which network interfaces there are.",
            "Sysadmin: `ip link` says whether it does at all.",
            details=repr(error),
        ) from error


def _links(uids: Collection[int] | None) -> Iterator[Mapping[int, bytes] | None]:
    """The attributes of each veth that may be of these; None: something changed meanwhile."""
    wanted = _attribute(_LINKINFO, _attribute(_KIND, b"veth"))
    request = _LINK.pack(0, 0, 0, 0, 0) + wanted
    head = _HEADER.pack(_HEADER.size + len(request), _GET, _REQUEST | _DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(5)
        kernel.sendto(head + request, (0, 0))
        while True:
            raw, at = kernel.recv(1 << 20), 0
            while at < len(raw):
                length, kind, flags, _, _ = _HEADER.unpack_from(raw, at)
                if flags & _INTERRUPTED:
                    yield None
                if kind == _DONE:
                    return
                if kind != _NEW:
                    raise OSError(f"the kernel answers {kind}")
                of = _UID.search(raw, at, at + length)  # to read all of one takes 0.1 ms
                if uids is None or (of is not None and int(of[1]) in uids):
                    yield attributes(raw[at + _HEADER.size + _LINK.size : at + length])
                at += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def attributes(raw: bytes) -> dict[int, bytes]:
    """The attributes in bytes, by type. Pure."""
    found, at = dict[int, bytes](), 0
    while at + _ATTRIBUTE.size <= len(raw):
        size, kind = _ATTRIBUTE.unpack_from(raw, at)
        found[kind & 0x3FFF] = raw[at + _ATTRIBUTE.size : at + size]
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return found


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
