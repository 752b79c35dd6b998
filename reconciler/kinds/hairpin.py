"""Each container reaches itself at the server's address, too: its bridge port sends frames back.

Where the kernel shows bridged frames to iptables (br_netfilter, which Docker turns on for the whole
machine), a frame whose destination is rewritten stays on the bridge, and a bridge sends nothing out
of the port that it came in by, unless that port is in hairpin mode (bridge(8), `hairpin`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.host.places import BRIDGE
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View

PORTS = Path("/sys/class/net") / BRIDGE / "brif"
_NAME, _ON = "hairpin", "on"


class HairpinKind:
    """Hairpin mode of the bridge's ports. A start turns it on for the new one."""

    name = "hairpin"
    lock = Lock.GLOBAL
    per_user = False

    def desired(self, view: View) -> Mapping[str, str]:
        """All ports are alike."""
        return {_NAME: _ON}

    def observe(self, view: View, names: Collection[str]) -> Observed[str]:
        """On if it is on everywhere."""
        return Observed({} if _without() else {_NAME: _ON})

    def apply(
        self, view: View, changes: Sequence[Change[str]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Turn it on where it is missing."""
        for port in _without():
            with suppress(FileNotFoundError):  # its container has just ended
                port.write_text("1\n")
        return {}

    def describe(self, change: Change[str]) -> str:
        """The purpose; the mode is for those who look it up."""
        return "let containers reach their own mapped ports (hairpin mode)"


def _without() -> list[Path]:
    """The switches that are off."""
    off = []
    for switch in PORTS.glob("*/hairpin_mode"):
        with suppress(FileNotFoundError):
            if switch.read_text().strip() != "1":
                off.append(switch)
    return off
