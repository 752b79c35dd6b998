"""The containers' network: the bridge, forwarding, and our filters with their hooks.

The hooks stand first in their chains: what Docker or ufw drop by default comes after them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from reconciler.host.places import BRIDGE
from reconciler.network import iptables, nft
from reconciler.network.filters import DNAT, HOOKS, mac_of, rules, table
from reconciler.network.resolvers import resolvers
from reconciler.network.rtnetlink import addresses
from reconciler.plan import Change, Lock, Observed, Tell
from state import command
from state.errors import LxcGpuError
from state.view import View

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_UP = 1
"""IFF_UP (netdevice(7))."""
IPV6 = Path(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6")
SETTINGS: Mapping[Path, str] = {
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/proxy_arp_pvlan"): "1",
    Path(f"/proc/sys/net/ipv4/neigh/{BRIDGE}/proxy_delay"): "0",
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/arp_notify"): "1",
    Path(f"/sys/class/net/{BRIDGE}/bridge/no_linklocal_learn"): "1",
    IPV6: "1",
}
"""The server answers ARP for containers among each other, at once. When the bridge's MAC changes,
containers that run hear of it, instead of sending to the old one for half a minute. The bridge
learns no MAC from frames that no hook sees (LLDP, br_input.c). No IPv6, which nothing of ours
judges; a kernel without it has no file for it (ip-sysctl.rst)."""


class NetworkKind:
    """Bridge, forwarding and chains."""

    name = "network"
    lock = Lock.GLOBAL
    per_user = False

    def desired(self, view: View) -> Mapping[str, str]:
        """Each part by its name, in the words that `observe` uses.

        Pure but for the server's resolv.conf, where the state names no resolvers.
        """
        parts = {
            "frames": table(view.gateway),
            "bridge": f"{view.gateway}/{view.prefix_length} {mac_of(view.gateway)} up",
            "bridge settings": _settings(SETTINGS),
            "forwarding": "on",
        }
        of_tables = rules(view, resolvers(view))
        parts |= {f"{t} {chain}": "\n".join(rs) for (t, chain), rs in of_tables.items()}
        return parts | {f"{t} {chain} hook": f"-j {ours}" for (t, chain), ours in HOOKS.items()}

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        """The parts as they are."""
        found = {"forwarding": "on"} if FORWARDING.read_text().strip() == "1" else {}
        if frames := nft.found(table(view.gateway)):
            found["frames"] = frames
        if bridge := _bridge():
            found["bridge"] = bridge
            read = {file: file.read_text().strip() for file in _present()}
            found["bridge settings"] = _settings({**SETTINGS, **read})
        tables = {name: iptables.read(name) for name in ("nat", "filter")}
        for table_, chain in rules(view, ()):
            if chain in tables[table_].chains:
                found[f"{table_} {chain}"] = "\n".join(tables[table_].chains[chain])
        for (table_, chain), ours in HOOKS.items():
            present = tables[table_].chains.get(chain, ())
            if present[:1] == (f"-j {ours}",) and present.count(f"-j {ours}") == 1:
                found[f"{table_} {chain} hook"] = f"-j {ours}"
        return Observed(found)

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make what is missing, filters first; the bridge keeps its ports."""
        names = {change.name for change in changes}
        if "frames" in names:
            nft.replace_table(table(view.gateway))
        for table_ in ("nat", "filter"):
            if any(name.startswith(f"{table_} ") for name in names):
                _make_chains(table_, view)
        if names & {"bridge", "bridge settings"}:
            if _bridge() is None:
                command.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
            for file in _present():
                file.write_text(f"{SETTINGS[file]}\n")
        if "bridge" in names:
            _set_bridge(view)
        if "forwarding" in names:
            FORWARDING.write_text("1\n")
        return {}

    def describe(self, change: Change[str]) -> str:
        """E.g. `set bridge: 10.77.0.1/16 up`."""
        if change.name == "frames":
            return f"load the nftables table {nft.NAME}, which judges containers' frames"
        return f"set {change.name}: {change.after}".replace("\n", "; ")


def _present() -> list[Path]:
    """The bridge's settings that this kernel has."""
    return [file for file in SETTINGS if file != IPV6 or file.exists()]


def _settings(values: Mapping[Path, str]) -> str:
    """E.g. `disable_ipv6=1 proxy_arp_pvlan=1 proxy_delay=0`."""
    return " ".join(sorted(f"{file.name}={values[file]}" for file in values))


def _bridge() -> str | None:
    """The bridge's addresses, its MAC and whether it is up; None if there is no bridge."""
    folder = Path("/sys/class/net") / BRIDGE
    try:
        own = " ".join(map(str, addresses(BRIDGE)))
        mac = (folder / "address").read_text().strip()
        up = int((folder / "flags").read_text(), 16) & _UP
    except OSError:
        return None
    return f"{own or 'no address'} {mac} {'up' if up else 'down'}"


def _set_bridge(view: View) -> None:
    command.run(["ip", "link", "set", BRIDGE, "address", mac_of(view.gateway)])
    command.run(["ip", "address", "flush", "dev", BRIDGE])
    command.run(["ip", "address", "add", f"{view.gateway}/{view.prefix_length}", "dev", BRIDGE])
    command.run(["ip", "link", "set", BRIDGE, "up"])


def _make_chains(name: str, view: View) -> None:
    """Write our fixed chains and hooks in one transaction; mapped ports stay mapped."""
    present = iptables.read(name).chains
    chains: dict[str, Sequence[str]] = {
        chain: rs for (t, chain), rs in rules(view, resolvers(view)).items() if t == name
    }
    if name == "nat":
        chains[DNAT] = present.get(DNAT, ())
    hooks: list[str] = []
    for (t, chain), ours in HOOKS.items():
        if t == name:
            hooks += [f"-D {chain} -j {ours}"] * present.get(chain, ()).count(f"-j {ours}")
            hooks.append(f"-I {chain} 1 -j {ours}")
    iptables.replace(name, chains, hooks)
