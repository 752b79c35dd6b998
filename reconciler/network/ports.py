"""The ports by which running containers are attached to the bridge, as the kernel shows them.

lxc-user-nic(1) makes a pair of veth(4) for each start, puts one end on the bridge and the other in
the container. The server's end is called `veth<uid>_XXXX`, which containers can't choose.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from reconciler.host.places import BRIDGE
from state import command

_NAME = re.compile(r"veth(\d+)_\w+", re.ASCII)


@dataclass(frozen=True)
class Port:
    """The server's end of a container's network interface."""

    name: str
    uid: int
    """The uid of the container's user."""
    peer: int
    """The number of the other end in the container's network namespace."""
    on_bridge: bool
    hairpin: bool
    """Whether frames may leave by the port that they came in by (bridge(8))."""


def ports() -> tuple[Port, ...]:
    """Every port whose other end is in a container. LxcGpuError if the kernel can't be asked.

    A port whose other end is still here is being made: lxc-user-nic would fail if somebody else
    put it on the bridge first (EBUSY, br_add_if in net/bridge/br_if.c).
    """
    shown = command.run(["ip", "-json", "-details", "link", "show", "type", "veth"]).stdout
    return parse(shown)


def parse(text: str) -> tuple[Port, ...]:
    """The ports in what `ip -json -details link` prints. Pure."""
    found = []
    for link in json.loads(text or "[]"):
        match = _NAME.fullmatch(link.get("ifname", ""))
        if match is not None and "link_netnsid" in link:
            on_bridge = link.get("master") == BRIDGE
            bridge = link.get("linkinfo", {}).get("info_slave_data", {})
            hairpin = on_bridge and bool(bridge.get("hairpin"))
            peer = int(link.get("link_index", 0))
            found.append(Port(match[0], int(match[1]), peer, on_bridge, hairpin))
    return tuple(found)
