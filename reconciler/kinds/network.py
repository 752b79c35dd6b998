"""The containers' network: the bridge, forwarding, and our chains with their hooks.

The hooks stand first in their chains: what Docker or ufw drop by default comes after them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from reconciler import iptables
from reconciler.places import BRIDGE
from reconciler.plan import Change, Lock, Observed, Tell
from state import command
from state.errors import LxcGpuError
from state.view import View

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
DNAT, SNAT, FORWARD = "LXC-GPU-DNAT", "LXC-GPU-SNAT", "LXC-GPU-FORWARD"
HOOKS: Mapping[tuple[str, str], str] = {
    ("nat", "PREROUTING"): DNAT,
    ("nat", "OUTPUT"): DNAT,
    ("nat", "POSTROUTING"): SNAT,
    ("filter", "FORWARD"): FORWARD,
}
"""Which chain of ours each of the kernel's chains jumps to, first of all."""


def rules(network: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """The fixed rules, as iptables-save prints them, by table and chain."""
    tracked = "-m conntrack --ctstate"
    return {
        ("nat", SNAT): (
            f"-s {network} ! -d {network} -j MASQUERADE",
            # a container that reaches another one through the server's address: the answer has to
            # come back through the server
            f"-s {network} -d {network} {tracked} DNAT -j MASQUERADE",
        ),
        ("filter", FORWARD): (
            f"-o {BRIDGE} {tracked} RELATED,ESTABLISHED -j ACCEPT",
            f"-o {BRIDGE} {tracked} DNAT -j ACCEPT",
            f"-s {network} -i {BRIDGE} -j ACCEPT",
        ),
    }


class NetworkKind:
    """Bridge, forwarding and chains."""

    name = "network"
    lock = Lock.GLOBAL
    per_user = False

    def desired(self, view: View) -> Mapping[str, str]:
        """Each part by its name, in words that observing gives back."""
        parts = {"bridge": f"{view.gateway}/{view.prefix_length} up", "forwarding": "on"}
        parts |= {f"{t} {chain}": "\n".join(rs) for (t, chain), rs in rules(view.network).items()}
        return parts | {f"{t} {chain} hook": f"-j {ours}" for (t, chain), ours in HOOKS.items()}

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        """The same parts as they are."""
        found = {"forwarding": "on"} if FORWARDING.read_text().strip() == "1" else {}
        if bridge := _bridge():
            found["bridge"] = bridge
        tables = {name: iptables.read(name) for name in ("nat", "filter")}
        for table, chain in rules(view.network):
            if chain in tables[table].chains:
                found[f"{table} {chain}"] = "\n".join(tables[table].chains[chain])
        for (table, chain), ours in HOOKS.items():
            present = tables[table].chains.get(chain, ())
            if present[:1] == (f"-j {ours}",) and present.count(f"-j {ours}") == 1:
                found[f"{table} {chain} hook"] = f"-j {ours}"
        return Observed(found)

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make what is missing; the bridge keeps the plugs that are in it."""
        names = {change.name for change in changes}
        if "bridge" in names:
            _make_bridge(view)
        if "forwarding" in names:
            FORWARDING.write_text("1\n")
        for table in ("nat", "filter"):
            if any(name.startswith(f"{table} ") for name in names):
                _make_chains(table, view)
        return {}

    def describe(self, change: Change[str]) -> str:
        """E.g. `set bridge: 10.77.0.1/16 up`."""
        return f"set {change.name}: {change.after}".replace("\n", "; ")


def _bridge() -> str | None:
    """The bridge's first address and whether it is up; None if there is no bridge."""
    shown = command.run(["ip", "-json", "address", "show", "dev", BRIDGE], check=False)
    if not shown.ok:
        return None
    (link,) = json.loads(shown.stdout)
    addresses = [
        f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"
    ]
    state = "up" if "UP" in link["flags"] else "down"
    return f"{' '.join(addresses) or 'no address'} {state}"


def _make_bridge(view: View) -> None:
    if _bridge() is None:
        command.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    command.run(["ip", "address", "flush", "dev", BRIDGE])
    command.run(["ip", "address", "add", f"{view.gateway}/{view.prefix_length}", "dev", BRIDGE])
    command.run(["ip", "link", "set", BRIDGE, "up"])


def _make_chains(table: str, view: View) -> None:
    """Our fixed chains and hooks in one transaction; what is mapped already stays mapped."""
    present = iptables.read(table).chains
    chains: dict[str, Sequence[str]] = {
        chain: rs for (t, chain), rs in rules(view.network).items() if t == table
    }
    if table == "nat":
        chains[DNAT] = present.get(DNAT, ())
    hooks: list[str] = []
    for (t, chain), ours in HOOKS.items():
        if t == table:
            hooks += [f"-D {chain} -j {ours}"] * present.get(chain, ()).count(f"-j {ours}")
            hooks.append(f"-I {chain} 1 -j {ours}")
    iptables.replace(table, chains, hooks)
