"""Checks of the containers' network: addresses, bridge, routes, forwarding, resolvers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from reconciler.container.lxc_config import resolvers_in, resolvers_line
from reconciler.container.running import running_containers
from reconciler.doctor.server import CheckedServer, output, text_of
from reconciler.host import places
from reconciler.kinds.traffic.network import FORWARDING
from reconciler.network.ports import Port, ports
from reconciler.network.resolvers import resolv_conf
from state import files
from state.wire.findings import Area, Finding

area = Area("network")
MOST_SAID = 5


def addresses(server: CheckedServer) -> Iterator[Finding]:
    """Whether the address in the state is one of this machine's, and the bridge is up."""
    if server.view is None:
        return
    links = json.loads(output("ip", "-json", "-4", "address", "show") or "[]")
    yield own_address(links, server.view.address, server.view.server)
    bridge = next((link for link in links if link.get("ifname") == places.BRIDGE), None)
    if bridge is None or "UP" not in bridge.get("flags", ()):
        yield area.wrong(
            f"The containers' bridge {places.BRIDGE} is not there, or down.", "lxc-gpu reconcile"
        )
    else:
        yield area.ok(f"the bridge {places.BRIDGE} is up")


def own_address(links: Sequence[Any], address: str, name: str) -> Finding:
    """Whether `ip -json address` knows `address`. Pure."""
    own = [
        (each["local"], link["ifname"])
        for link in links
        for each in link.get("addr_info", ())
        if each.get("family") == "inet"
    ]
    for local, interface in own:
        if local == address:
            return area.ok(f"{address} is this machine's ({interface})")
    outward = [local for local, dev in own if dev not in ("lo", places.BRIDGE)]
    return area.wrong(
        f"The state says {address}, which is not an address of this machine, so no port "
        "leads to a container.",
        f"`address:` in servers/{name}.yaml has to be one of {', '.join(outward) or '(none)'}.",
    )


def routes(server: CheckedServer) -> Iterator[Finding]:
    """Whether the containers' network overlaps another route."""
    if server.view is not None:
        found = json.loads(output("ip", "-json", "-4", "route", "show") or "[]")
        yield overlapping(found, server.view.network)


def overlapping(routes: Sequence[Any], network: str) -> Finding:
    """Whether a route of `ip -json route` overlaps `network`. Pure."""
    own = IPv4Network(network)
    for route in routes:
        if route.get("dst") in (None, "default") or route.get("dev") == places.BRIDGE:
            continue
        try:
            other = IPv4Network(route["dst"])
        except ValueError:
            continue
        if other.overlaps(own):
            via = route.get("dev", route.get("gateway", "?"))
            return area.wrong(
                f"The containers' network {own} overlaps {other}, which is behind {via}: one of "
                "them is cut off.",
                "Set `network:` in fleet.yaml to a private network that is used nowhere here.",
            )
    return area.ok(f"only the containers use {own}")


def forwarding(_: CheckedServer) -> Iterator[Finding]:
    """Whether the kernel passes packets on."""
    if text_of(FORWARDING) == "1":
        yield area.ok("the kernel forwards packets")
    else:
        yield area.wrong(
            "The kernel forwards no packets: containers are cut off.",
            "lxc-gpu reconcile. If this comes back: grep -r ip_forward /etc/sysctl*",
        )


def plugged_in(server: CheckedServer) -> Iterator[Finding]:
    """Whether each container that runs has a port on the bridge."""
    if server.view is None:
        return
    here, found = running_containers() & server.view.residents.keys(), ports()
    lost = [cut_off(found, name, server.view.residents[name].uid) for name in sorted(here)]
    yield from (finding for finding in lost if finding is not None)
    if not any(lost):
        yield area.ok("each container that runs has its port on the bridge")


def cut_off(found: Sequence[Port], name: str, uid: int) -> Finding | None:
    """What is wrong with the ports of a container that runs; None if nothing is. Pure."""
    own = [port for port in found if port.uid == uid]
    if any(port.on_bridge for port in own):
        return None
    if own:
        return area.wrong(
            f"The container of {name} runs, but its port {own[0].name} is not on the bridge "
            f"{places.BRIDGE}: nobody reaches it.",
            "lxc-gpu reconcile puts it back, nothing is restarted",
        )
    return area.wrong(
        f"The container of {name} runs, but has no port on this server any more: nobody reaches "
        "it.",
        "Only a start makes one. They type `ssh SERVER-manage restart`.",
    )


def resolvers(server: CheckedServer) -> Iterator[Finding]:
    """Whether running containers have the resolvers that a start would give them now."""
    if server.view is None:
        return
    here = running_containers() & server.view.residents.keys()
    given = {
        name: resolvers_in(files.read_text(places.container_config(name)) or "") for name in here
    }
    yield given_resolvers(given, resolv_conf(server.view))


def given_resolvers(given: Mapping[str, str | None], now: str) -> Finding:
    """The finding, by the resolvers that each container was given. Pure.

    None: not known, because an earlier release started it.
    """
    words = "; ".join(now.splitlines())
    old = sorted(name for name, was in given.items() if was not in (None, resolvers_line(now)))
    if not old:
        return area.ok(f"containers that run have the server's resolvers ({words or 'none'})")
    names = ", ".join([*old[:MOST_SAID], *(["..."] if old[MOST_SAID:] else [])])
    return area.note(
        f"The server's resolvers changed after these containers started: {names}. Looking "
        "names up may fail in them.",
        f"They type `ssh SERVER-manage restart`, or write into /etc/resolv.conf inside: {words}",
    )
