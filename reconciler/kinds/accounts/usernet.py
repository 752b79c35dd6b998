"""lxc-usernet(5): which users may attach a container to our bridge, by how many interfaces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from reconciler.host import places
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.files import read_text, write_file
from state.view import View

USERNET = Path("/etc/lxc/lxc-usernet")
PLUGS = 8
"""Network interfaces a user may have on the bridge. A container has one; those of killed containers
count until the kernel has removed them and lxc-user-nic has forgotten them."""


def parse(text: str) -> dict[str, int]:
    """How many interfaces on our bridge each user may have."""
    lines = (line.split() for line in text.splitlines())
    return {
        fields[0]: int(fields[3])
        for fields in lines
        if len(fields) == 4 and fields[1:3] == ["veth", places.BRIDGE] and fields[3].isdigit()
    }


def replace_lines(text: str, wanted: Mapping[str, int | None]) -> str:
    """`text` with our bridge's lines of the users in `wanted` replaced (None: taken away)."""
    kept = [
        line
        for line in text.splitlines()
        if not (
            (fields := line.split())[:1]
            and fields[0] in wanted
            and fields[1:3] == ["veth", places.BRIDGE]
        )
    ]
    new = [f"{n} veth {places.BRIDGE} {plugs}" for n, plugs in wanted.items() if plugs is not None]
    return "".join(f"{line}\n" for line in kept + new)


class UsernetKind:
    """The permission to attach a container to the bridge."""

    name = "usernet"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, int]:
        """The interfaces of each resident."""
        return dict.fromkeys(view.residents, PLUGS)

    def observe(self, view: View, names: Collection[str]) -> Observed[int]:
        """Every user of our bridge: all lines for it are ours."""
        there = parse(read_text(USERNET) or "")
        return Observed({view.user_of(account): plugs for account, plugs in there.items()})

    def apply(
        self, view: View, changes: Sequence[Change[int]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Write the file once, for all changes."""
        wanted = {view.account_of(change.name): change.after for change in changes}
        write_file(USERNET, replace_lines(read_text(USERNET) or "", wanted))
        return {}

    def describe(self, change: Change[int]) -> str:
        """E.g. `let lqchen plug a container into lxcgpu0`."""
        if change.after is None:
            return f"no longer let {change.name} plug a container into {places.BRIDGE}"
        return f"let {change.name} plug a container into {places.BRIDGE}"
