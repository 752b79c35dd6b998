"""The port of each container that runs: on the bridge, and in hairpin mode.

A bridge that was deleted and made again has no ports; putting them back restarts nothing.

A container can reach itself at the server's address. Where the kernel shows bridged frames to
iptables (br_netfilter, which Docker turns on for the whole machine), a frame whose destination is
rewritten stays on the bridge, and a bridge sends nothing out of the port that it came in by, unless
that port is in hairpin mode (bridge(8), `hairpin`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.host.places import BRIDGE
from reconciler.network.ports import ports
from reconciler.plan import Change, Lock, Observed, Tell
from state import command
from state.errors import LxcGpuError
from state.view import View

Missing = frozenset[str]
_PLACE, _HAIRPIN = "place", "hairpin"


class BridgePortKind:
    """What the ports of each user's container lack."""

    name = "bridge_port"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, Missing]:
        """Nothing, for every user."""
        return dict.fromkeys(view.residents, frozenset())

    def observe(self, view: View, names: Collection[str]) -> Observed[Missing]:
        """What any of the user's ports lacks; a container that doesn't run lacks nothing."""
        lacking: dict[int, set[str]] = {}
        for port in ports(frozenset(r.uid for r in view.residents.values())):
            missing = {_PLACE: not port.on_bridge, _HAIRPIN: not port.hairpin}
            lacking.setdefault(port.uid, set()).update(what for what, so in missing.items() if so)
        return Observed({n: frozenset(lacking.get(r.uid, ())) for n, r in view.residents.items()})

    def apply(
        self, view: View, changes: Sequence[Change[Missing]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Do what lxc-user-nic does at a start; a port may be gone by now, with its container."""
        uids = {view.residents[c.name].uid for c in changes if c.name in view.residents}
        for port in ports(uids):
            if not port.on_bridge:
                command.run(["ip", "link", "set", port.name, "master", BRIDGE], check=False)
            with suppress(OSError):
                Path(f"/sys/class/net/{port.name}/brport/hairpin_mode").write_text("1\n")
        return {}

    def describe(self, change: Change[Missing]) -> str:
        """The change by its purpose."""
        if change.before and _PLACE in change.before:
            return f"put the port of {change.name}'s container on the bridge {BRIDGE}"
        return f"let {change.name}'s container reach its own mapped ports (hairpin mode)"
