"""Which port of the server leads to which container: DNAT rules in a chain of ours.

A container's address never changes, so its mapping stands as long as the user is registered,
whether or not the container runs: it can't go stale, and a reboot needs nothing done. Every rule
names the server's own address as destination, so that traffic meant for another server, where the
ports are the same, passes by.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reconciler import iptables
from reconciler.kinds.network import DNAT
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View

SSH = 22
RULE = re.compile(
    r"-d (?P<address>[\d.]+)/32 -p (?P<protocol>tcp|udp) "
    r"-m comment --comment \"?lxc-gpu:(?P<user>[a-z0-9_-]+)\"? -m (?:tcp|udp) "
    r"--dport (?P<port>\d+) -j DNAT --to-destination (?P<to_address>[\d.]+):(?P<to_port>\d+)"
)


@dataclass(frozen=True)
class PortMapping:
    """`address:port` of the server leads to `to_address:to_port`."""

    protocol: str
    address: str
    port: int
    to_address: str
    to_port: int

    def rule(self, user: str) -> str:
        """The rule as iptables-save prints it."""
        return (
            f"-d {self.address}/32 -p {self.protocol} -m comment --comment lxc-gpu:{user} "
            f"-m {self.protocol} --dport {self.port} "
            f"-j DNAT --to-destination {self.to_address}:{self.to_port}"
        )


def parse(rules: Sequence[str]) -> dict[str, tuple[PortMapping | str, ...]]:
    """The mappings of each user; a rule that isn't of our form counts as its own owner."""
    mappings: dict[str, tuple[PortMapping | str, ...]] = {}
    for rule in rules:
        match = RULE.fullmatch(rule)
        if match is None:
            mappings[rule] = (rule,)
            continue
        f = match.groupdict()
        mapping = PortMapping(
            f["protocol"], f["address"], int(f["port"]), f["to_address"], int(f["to_port"])
        )
        mappings[f["user"]] = (*mappings.get(f["user"], ()), mapping)
    return mappings


class PortMapKind:
    """Ports of the server that lead to containers."""

    name = "port_map"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, tuple[PortMapping | str, ...]]:
        """The ssh port of every resident."""
        return {
            name: (PortMapping("tcp", view.address, r.port, r.address, SSH),)
            for name, r in view.residents.items()
        }

    def observe(
        self, view: View, names: Collection[str]
    ) -> Observed[tuple[PortMapping | str, ...]]:
        """All rules of the chain; those of no resident are there to be taken away."""
        return Observed(parse(iptables.read("nat").chains.get(DNAT, ())))

    def apply(
        self, view: View, changes: Sequence[Change[tuple[PortMapping | str, ...]]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Replace the chain as a whole, in one transaction."""
        mappings = parse(iptables.read("nat").chains.get(DNAT, ()))
        for change in changes:
            mappings[change.name] = change.after or ()
        rules = [
            mapping if isinstance(mapping, str) else mapping.rule(user)
            for user, of_user in sorted(mappings.items())
            for mapping in of_user
        ]
        iptables.replace("nat", {DNAT: rules})
        return {}

    def describe(self, change: Change[tuple[PortMapping | str, ...]]) -> str:
        """E.g. `map 172.16.2.17:22031 to lqchen's container (10.77.0.33:22)`."""
        if change.after is None:
            return f"take away the mapping of {change.name}"
        return ", ".join(
            f"map {m.address}:{m.port} to {change.name}'s container ({m.to_address}:{m.to_port})"
            for m in change.after
            if isinstance(m, PortMapping)
        )
