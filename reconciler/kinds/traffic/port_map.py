"""The ssh port of each container on the server: DNAT rules in a chain of ours.

A container's address never changes, so its mapping stays as long as the user is registered, whether
or not the container runs. Every rule names the server's own address as destination, so that traffic
meant for another server, where the ports are the same, passes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from reconciler.network import iptables
from reconciler.network.filters import DNAT
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View

SSH = 22
RULE = re.compile(
    r"-d (?P<address>[\d.]+)/32 -p (?P<protocol>tcp|udp) "
    r"-m comment --comment \"?lxc-gpu:(?P<user>[a-z0-9_-]+)\"? -m (?:tcp|udp) "
    r"--dport (?P<port>\d+) -j DNAT --to-destination (?P<to_address>[\d.]+):(?P<to_port>\d+)"
)


class PortMapping(NamedTuple):
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


Mappings = Mapping[str, tuple[PortMapping | str, ...]]
"""By user."""


def parse(rules: Sequence[str]) -> dict[str, tuple[PortMapping | str, ...]]:
    """The mappings of each user; a rule of another form counts as its own owner."""
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


class Chain:
    """A share of our chain: the forwards, or all other rules. One kind looks after each share.

    The server's port tells them apart: the fleet's range for forwards is used for nothing else
    (`state.reading.check`). A rule of another form isn't a forward.
    """

    def __init__(self, view: View, *, forwards: bool) -> None:
        self._range = view.forward_ports
        self._forwards = forwards

    def read(self) -> Mappings:
        """The rules of the share as they are."""
        shares = {
            user: tuple(m for m in of_user if self._has(m)) for user, of_user in _mapped().items()
        }
        return {user: of_user for user, of_user in shares.items() if of_user}

    def replace(self, changes: Sequence[Change[tuple[PortMapping | str, ...]]]) -> None:
        """Write the chain anew as a whole, in one transaction; the other share stays."""
        mapped = _mapped()
        for change in changes:
            others = (m for m in mapped.get(change.name, ()) if not self._has(m))
            mapped[change.name] = (*others, *(change.after or ()))
        rules = [
            mapping if isinstance(mapping, str) else mapping.rule(user)
            for user, of_user in sorted(mapped.items())
            for mapping in of_user
        ]
        iptables.replace("nat", {DNAT: rules})

    def _has(self, mapping: PortMapping | str) -> bool:
        is_forward = isinstance(mapping, PortMapping) and mapping.port in self._range
        return is_forward == self._forwards


def _mapped() -> dict[str, tuple[PortMapping | str, ...]]:
    return parse(iptables.read("nat").chains.get(DNAT, ()))


def in_words(change: Change[tuple[PortMapping | str, ...]]) -> str:
    """E.g. `map 172.16.2.17:22031 to lqchen's container (10.77.0.33:22)`."""
    return ", ".join(
        f"map {m.address}:{m.port}{'/udp' if m.protocol == 'udp' else ''} "
        f"to {change.name}'s container ({m.to_address}:{m.to_port})"
        for m in change.after or ()
        if isinstance(m, PortMapping)
    )


class PortMapKind:
    """The ssh ports of containers, and every other rule in our chain that isn't a forward."""

    name = "port_map"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mappings:
        """The ssh port of every resident."""
        return {
            name: (PortMapping("tcp", view.address, r.port, r.address, SSH),)
            for name, r in view.residents.items()
        }

    def observe(
        self, view: View, names: Collection[str]
    ) -> Observed[tuple[PortMapping | str, ...]]:
        """All rules of the share; those that belong to no resident are to be removed."""
        return Observed(Chain(view, forwards=False).read())

    def apply(
        self, view: View, changes: Sequence[Change[tuple[PortMapping | str, ...]]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Replace the chain as a whole."""
        Chain(view, forwards=False).replace(changes)
        return {}

    def describe(self, change: Change[tuple[PortMapping | str, ...]]) -> str:
        """The mapping that is made, or that it is taken away."""
        return in_words(change) or f"take away the mapping of {change.name}"
